"""`spillway ask` and `spillway explain`: one request to the running suite, and all that it says about itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from spillway.calling import CallerError
from spillway.cli.addresses import NoServiceError
from spillway.cli.advice import advice, attempts_text
from spillway.cli.recording import RecordingError
from spillway.cli.replay import NoFlagshipError
from spillway.cli.show import completion_view, explanation_view, hops_view
from spillway.cli.state import read_state
from spillway.cli.terminal import harmless_json, open_console
from spillway.cli.trace import fetch_trace
from spillway.cli.trace_view import trace_view
from spillway.client import DEFAULT_TARGET, TARGET_VARIABLE, Client
from spillway.errors import RequestError, UnavailableError
from spillway.routing import AnswerDelta, AttemptOutcome, Completion, RoutingOptions
from spillway.wire import completion_to_proto, explanation_to_proto

__all__ = [
    "FAILURES",
    "Command",
    "SuiteAddress",
    "UnreadablePromptError",
    "ask",
    "error_json",
    "explain",
    "find_suite",
    "sentence",
]

TRACE_URL_VARIABLE = "SPILLWAY_TRACE_URL"

Command = Callable[[], None]


class UnreadablePromptError(Exception):
    """The prompt cannot be read as text. The message says where."""


FAILURES = (
    RequestError,
    RecordingError,
    NoFlagshipError,
    NoServiceError,
    UnreadablePromptError,
    CallerError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class SuiteAddress:
    """Where the suite is; `trace_query_url` is empty without a trace store. `certificates` as `up` left them."""

    target: str
    trace_query_url: str
    certificates: tuple[str, ...] = ()


def find_suite(target: str, trace_url: str, environment: Mapping[str, str], directory: Path) -> SuiteAddress:
    """What was said on the command line, else in the environment, else by `up` in this directory, else the default."""
    state = read_state(directory)
    target = target or environment.get(TARGET_VARIABLE, "")
    trace_url = trace_url or environment.get(TRACE_URL_VARIABLE, "")
    if state is not None and target in {"", state.target}:
        return SuiteAddress(state.target, trace_url or state.trace_query_url, state.certificates)
    return SuiteAddress(target or DEFAULT_TARGET, trace_url)


def ask(
    where: SuiteAddress,
    prompt: str,
    options: RoutingOptions,
    *,
    tenant: str,
    timeout_s: float,
    stream: bool,
    as_json: bool,
) -> None:
    """Ask, and print the answer, its path, cost and trace. Raises RequestError."""
    console = open_console()
    with Client(where.target, tenant=tenant, timeout_s=timeout_s) as client:
        if stream and not as_json:
            completion = _streamed(client, prompt, options, console)
        else:
            completion = client.complete(prompt, options=options)
            if not as_json:
                _print_answer(completion, console)
    if as_json:
        _print_json(completion_to_proto(completion))
        return
    console.print(Rule(style="dim"))
    console.print(completion_view(completion))
    console.print()
    _print_trace(completion, where.trace_query_url, console)


def explain(
    where: SuiteAddress, prompt: str, options: RoutingOptions, *, tenant: str, timeout_s: float, as_json: bool
) -> None:
    """Print the plan for a prompt and why. Raises RequestError."""
    with Client(where.target, tenant=tenant, timeout_s=timeout_s) as client:
        explanation = client.explain(prompt, options=options)
    if as_json:
        _print_json(explanation_to_proto(explanation))
    else:
        open_console().print(explanation_view(explanation))


def sentence(error: Exception) -> str:
    """What to tell a person about a failed command."""
    if isinstance(error, UnavailableError) and not error.failure.reason:
        return f"no suite answers ({error.failure.message})\nIs `spillway up` running? Another address: --target."
    lines = [str(error)]
    if isinstance(error, RequestError):
        lines += advice(error.failure)
    return "\n".join(lines)


def error_json(error: Exception) -> str:
    """What to tell a program about a failed command; an error of this side has neither code nor reason."""
    failure = error.failure if isinstance(error, RequestError) else None
    value = {
        "code": failure.code.name if failure else "",
        "reason": failure.reason if failure else "",
        "message": failure.message if failure else str(error),
        "violations": [{"field": field, "message": what} for field, what in failure.violations] if failure else [],
        "retry_after_s": failure.retry_after_s if failure else None,
        "attempts": attempts_text(failure) if failure else "",
        "quota": failure.quota if failure else "",
    }
    return harmless_json(json.dumps({"error": value}, indent=2))


def _streamed(client: Client, prompt: str, options: RoutingOptions, console: Console) -> Completion:
    completion: Completion | None = None
    for event in client.stream(prompt, options=options):
        if isinstance(event, AnswerDelta):
            console.out(event.text, end="", highlight=False)
            console.file.flush()
        else:
            completion = event
    assert completion is not None  # noqa: S101 - the client raises when a stream ends without it
    console.print()
    _print_tool_calls(completion, console)
    return completion


def _print_answer(completion: Completion, console: Console) -> None:
    if completion.text:
        console.out(completion.text, highlight=False)
    _print_tool_calls(completion, console)


def _print_tool_calls(completion: Completion, console: Console) -> None:
    for call in completion.message.tool_calls:
        console.print(Text(f"{call.name}({call.arguments_json})", style="cyan"))


def _print_json(message: Message) -> None:
    print(harmless_json(MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=False)))


def _print_trace(completion: Completion, query_url: str, console: Console) -> None:
    """The trace as a tree; without a trace, the latency of each hop and a remark why."""
    remark = (
        "no trace store: `spillway up` has one unless a collector is named; then --trace-url names Jaeger's query API"
    )
    if query_url and completion.trace_id:
        attempts = sum(attempt.outcome is not AttemptOutcome.SKIPPED for attempt in completion.attempts)
        with httpx.Client(trust_env=False) as http:
            trace = fetch_trace(query_url, completion.trace_id, attempts=attempts, client=http)
        if trace is not None:
            console.print(trace_view(trace, console.width))
            if not trace.whole:
                console.print(Text("some spans have not arrived in time", style="yellow"))
            return
        remark = f"the trace has not arrived at {query_url}"
    elif query_url:
        remark = "the suite exports no traces"
    console.print(hops_view(completion))
    console.print(Text(f" {remark}", style="dim"))
