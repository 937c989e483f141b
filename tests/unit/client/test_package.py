"""What `import spillway` costs and needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import spillway

# What the base install does not bring.
FOREIGN = ("pydantic", "yaml", "rich", "typer", "httpx", "opentelemetry", "structlog", "numpy", "services")


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {name.split(".")[0] for name in run.stdout.split()}


def test_importing_the_package_loads_nothing() -> None:
    assert "grpc" not in loaded_after("import spillway")


def test_the_clients_need_no_extra() -> None:
    loaded = loaded_after("from spillway import AsyncClient, Client, CompletionRequest, RequestError")
    assert "grpc" in loaded
    assert loaded.isdisjoint(FOREIGN)


@pytest.mark.parametrize("name", spillway.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(spillway, name).__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        spillway.nothing_of_the_kind  # noqa: B018
