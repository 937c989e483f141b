"""The tools come first: kustomize, hadolint, kubernetes-validate and checkov, into .spillway/tools."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.processes import REPOSITORY


@pytest.fixture(scope="session")
def tools() -> None:
    """Installs what is missing; a second run costs nothing."""
    done = subprocess.run(
        [REPOSITORY / "scripts" / "deploy-tools", "--checkov"], check=False, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
