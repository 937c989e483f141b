"""A sandbox on real sockets, one per test."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.sandbox.app import build_app
from services.sandbox.rows import EXAMPLES_PATH, RecordedAnswer, Row, read_rows
from services.sandbox.server import serving_in_thread
from services.sandbox.tokens import TokenCounter, find_tokenizer
from services.sandbox.traces import TraceStore

ROWS = (
    Row("Capital of France?", {"big": RecordedAnswer("The capital of France is Paris."), "small": RecordedAnswer("")}),
    Row("Sure?", {"big": RecordedAnswer("Quite sure.", confidence=2)}),
)

ANTHROPIC_HEADERS = {"x-api-key": "any", "anthropic-version": "2026-10-21"}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox and a client of it."""

    http: httpx.AsyncClient
    otlp_endpoint: str | None

    async def script(self, **models: list[dict[str, Any]]) -> None:
        """Play these steps from now on; `any` stands for "*"."""
        steps = {"*" if name == "any" else name: steps for name, steps in models.items()}
        (await self.http.put("/sandbox/script", json={"models": steps})).raise_for_status()

    def body(self, prompt: str = "Capital of France?", model: str = "big", **fields: Any) -> dict[str, Any]:
        """Make a request body."""
        return {"model": model, "messages": [{"role": "user", "content": prompt}], **fields}

    async def ask(self, prompt: str = "Capital of France?", model: str = "big", **fields: Any) -> httpx.Response:
        """Make one call."""
        return await self.http.post("/v1/chat/completions", json=self.body(prompt, model, **fields))

    async def ask_anthropic(self, prompt: str = "Capital of France?", **fields: Any) -> httpx.Response:
        """Make one call in Anthropic's format."""
        body = {**self.body(prompt, "big"), "max_tokens": 100, **fields}
        return await self.http.post("/v1/messages", json=body, headers=ANTHROPIC_HEADERS)

    async def calls(self) -> list[dict[str, Any]]:
        """Fetch the journal."""
        calls: list[dict[str, Any]] = (await self.http.get("/sandbox/calls")).json()["calls"]
        return calls


@pytest.fixture(scope="session")
def count_tokens() -> Callable[[str], int]:
    """Count with the real tokenizer."""
    return TokenCounter(find_tokenizer({}, Path("/nonexistent"))).count


@pytest.fixture(scope="session")
def replay_url(count_tokens: Callable[[str], int]) -> Iterator[str]:
    """Replay ROWS, for all tests: a server takes its time to stop."""
    app = build_app(ROWS, count_tokens, aliases={"house": "big"}, clock=lambda: 1_700_000_000.9)
    with serving_in_thread(app) as addresses:
        yield addresses.url


@pytest.fixture
async def sandbox(replay_url: str) -> AsyncIterator[Sandbox]:
    """Replay ROWS, with no script and an empty journal."""
    async with httpx.AsyncClient(base_url=replay_url, timeout=20, trust_env=False, verify=False) as http:
        sandbox = Sandbox(http, None)
        await sandbox.script()
        await http.delete("/sandbox/calls")
        yield sandbox


@pytest.fixture
async def traced(count_tokens: Callable[[str], int]) -> AsyncIterator[Sandbox]:
    """Keep traces, none yet."""
    traces = TraceStore()
    with serving_in_thread(build_app(ROWS, count_tokens, traces=traces), traces=traces) as addresses:
        async with httpx.AsyncClient(base_url=addresses.url, timeout=20, trust_env=False, verify=False) as http:
            yield Sandbox(http, addresses.otlp_endpoint)


@pytest.fixture
async def examples(count_tokens: Callable[[str], int]) -> AsyncIterator[Sandbox]:
    """Answer from the examples that come with the sandbox."""
    with serving_in_thread(build_app(read_rows(EXAMPLES_PATH), count_tokens, examples_mode=True)) as addresses:
        async with httpx.AsyncClient(base_url=addresses.url, timeout=20, trust_env=False, verify=False) as http:
            yield Sandbox(http, None)
