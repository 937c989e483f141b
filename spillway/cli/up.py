"""`spillway up`: every service as a process of its own, watched, until one Ctrl-C ends all of it.

Promises: SIGINT, SIGTERM and SIGHUP stop the services in order; a second one kills them at once. The state file is
there while the suite serves and gone afterwards; if this process is killed, the kernel kills the services with it
(Linux).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from spillway.cli.advice import KEY_HINT
from spillway.cli.certificates import adopt
from spillway.cli.config_watch import follow_configuration
from spillway.cli.demo import demo_view, own_command, run_demo, what_next
from spillway.cli.front import look_at_front
from spillway.cli.health import ServiceHealth, as_checked, service_health
from spillway.cli.probes import lacks_embedding
from spillway.cli.state import ServiceState, StateFile, SuiteState
from spillway.cli.status import open_status
from spillway.cli.suite import Suite, SuiteError
from spillway.cli.supervisor import StartError, Supervisor
from spillway.cli.terminal import LastingConsole
from spillway.cli.trace import fetch_trace
from spillway.cli.trace_view import trace_view
from spillway.client import AsyncClient
from spillway.routing import AttemptOutcome

__all__ = ["run_suite"]

# The first start builds the embedding model; everything else is ready in seconds.
START_TIMEOUT_S = 180.0
# After the last process is up: how long the front may take to reach the others.
CONNECT_TIMEOUT_S = 10.0
EMBED_TIMEOUT_S = 5.0
WITHOUT_EMBEDDING = (
    "without its embedding model: the classifier judges by heuristics alone and the cache finds only exact repeats "
    "(logs/classifier.log says why)"
)
EXIT_FAILED = 1


class _Stop:
    """Asked to stop, once or more often."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.asked = asyncio.Event()
        self._supervisor = supervisor

    def ask(self) -> None:
        if self.asked.is_set():
            self._supervisor.kill()
        self.asked.set()


async def run_suite(suite: Suite, *, directory: Path, demo: bool, leave: bool) -> int:
    """Run the suite until it is told to stop or nobody reads what it prints, or, with `leave`, until it serves and the
    demo has been shown.

    Returns the exit code. Raises AlreadyRunningError, and SuiteError when the directory cannot be written in.
    """

    def note_change() -> None:
        view.changed()
        state_file.write(_state(suite, supervisor))

    adopt(suite.certificates)
    with ExitStack() as stack:
        try:
            state_file = stack.enter_context(StateFile(directory))
            supervisor = Supervisor(suite.processes, log_dir=state_file.directory / "logs", on_change=note_change)
        except OSError as error:
            raise SuiteError(
                f"cannot write in {directory} ({error.strerror}): start it in a directory of yours"
            ) from error
        stop = _Stop(supervisor)
        console = LastingConsole(on_lost=stop.asked.set)
        view = open_status(console, supervisor.statuses)
        _greet(suite, console, state_file.directory)
        with _signals(stop), view:
            supervisor.start()
            try:
                return await _serve(suite, supervisor, console, stop.asked, demo=demo, leave=leave)
            finally:
                await supervisor.stop(suite.stop_timeout_s)


async def _serve(
    suite: Suite, supervisor: Supervisor, console: Console, stop: asyncio.Event, *, demo: bool, leave: bool
) -> int:
    try:
        if not await _unless(stop, supervisor.wait_serving(START_TIMEOUT_S)):
            return 0
    except StartError as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return EXIT_FAILED
    async with AsyncClient(suite.target) as client:
        if not await _unless(stop, _say_serving(suite, client, console)):
            return 0
        if demo:
            await _unless(stop, _show_demo(suite, client, console))
    if not leave:
        console.print(Text("Ctrl-C ends it.", style="dim"))
        await _unless(stop, _follow_configuration(suite, supervisor, console))
    return 0


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work to its end, unless told to stop first. False when stopped; raises what the work raises."""
    doing = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not doing.done():
        doing.cancel()
        await asyncio.wait({doing})
        return False
    doing.result()
    return True


async def _say_serving(suite: Suite, client: AsyncClient, console: Console) -> None:
    """Say so once a request gets through to every service: the front may still be connecting when all are up."""
    front = await look_at_front(client, within_s=CONNECT_TIMEOUT_S)
    text = Text.assemble(("serving", "bold green"), f" on {suite.target}")
    if front.missing:
        text.append(f", so far without {', '.join(front.missing)}", style="yellow")
    console.print(text)
    if front.wants_key:
        console.print(Text(f"every call needs an API key: {KEY_HINT}", style="yellow"), soft_wrap=True)
    if suite.settings.classifier.embedding and await lacks_embedding(
        suite.settings.services.classifier.target, EMBED_TIMEOUT_S
    ):
        console.print(Text(WITHOUT_EMBEDDING, style="yellow"), soft_wrap=True)


async def _show_demo(suite: Suite, client: AsyncClient, console: Console) -> None:
    demo = await run_demo(client)
    console.print(Rule("eight prompts", style="dim", align="left"))
    console.print(demo_view(demo))
    telling = demo.most_telling
    if telling is not None and telling.trace_id and suite.trace_query_url:
        attempts = sum(attempt.outcome is not AttemptOutcome.SKIPPED for attempt in telling.attempts)
        with httpx.Client(trust_env=False) as http:
            trace = await asyncio.to_thread(
                fetch_trace, suite.trace_query_url, telling.trace_id, attempts=attempts, client=http
            )
        if trace is not None:
            console.print(Rule("every hop of one of them", style="dim", align="left"))
            console.print(trace_view(trace, console.width))
    console.print(Rule("what next", style="dim", align="left"))
    command = own_command(Path(sys.executable), Path.cwd(), os.environ.get("PATH", ""))
    console.print(what_next(command, with_sandbox=suite.sandbox), soft_wrap=True)


async def _follow_configuration(suite: Suite, supervisor: Supervisor, console: Console) -> None:
    """Says what becomes of a changed file, until cancelled."""

    async def ask() -> Sequence[ServiceHealth]:
        services = (each for each in supervisor.statuses() if not each.address.startswith("http"))
        return await asyncio.gather(*(service_health(each.name, each.address) for each in services))

    await follow_configuration(
        suite.config_path,
        ask,
        lambda: as_checked(suite.config_path, suite.processes[0].environ),
        lambda line: console.print(line, soft_wrap=True),
    )


def _greet(suite: Suite, console: Console, home: Path) -> None:
    console.print(Text.assemble(("spillway", "bold"), f" · configuration {suite.config_path}"), soft_wrap=True)
    for note in suite.notes:
        console.print(Text(note, style="yellow"), soft_wrap=True)
    if suite.trace_query_url:
        console.print(
            Text(f"traces: `ask` draws them; as Jaeger's JSON: {suite.trace_query_url}/api/traces", style="dim"),
            soft_wrap=True,
        )
    console.print(Text(f"logs: {home}/logs", style="dim"), soft_wrap=True)


def _state(suite: Suite, supervisor: Supervisor) -> SuiteState:
    return SuiteState(
        pid=os.getpid(),
        target=suite.target,
        trace_query_url=suite.trace_query_url,
        config=str(suite.config_path),
        services=tuple(ServiceState(status.name, status.pid, status.address) for status in supervisor.statuses()),
        certificates=suite.certificates,
    )


@contextmanager
def _signals(stop: _Stop) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.ask)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
