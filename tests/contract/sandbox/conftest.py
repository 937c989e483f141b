"""A sandbox on a real socket for the official SDKs, and a way to script it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.sandbox.app import build_app
from services.sandbox.rows import RecordedAnswer, Row
from services.sandbox.server import serving_in_thread
from services.sandbox.tokens import TokenCounter, find_tokenizer

ROWS = (Row("Capital of France?", {"big": RecordedAnswer("The capital of France is Paris.", logprobs=-0.125)}),)

Script = Callable[..., None]


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    """Replay ROWS, for all tests."""
    with serving_in_thread(build_app(ROWS, TokenCounter(find_tokenizer({}, Path("/nonexistent"))).count)) as addresses:
        yield addresses.url


@pytest.fixture(autouse=True)
def _no_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDKs are used as they come, and as they come they read the environment.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def script(sandbox_url: str) -> Script:
    """Play steps for the model "big" from now on; none at first."""

    def play(*steps: dict[str, Any], **fields: Any) -> None:
        body = {"models": {"big": steps} if steps else {}, **fields}
        httpx.put(f"{sandbox_url}/sandbox/script", json=body, trust_env=False).raise_for_status()

    play()
    return play
