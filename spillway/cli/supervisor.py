"""Keeps a set of processes running: starts them, restarts what crashes or hangs, ends all of it together.

Promises: every process is its own session, so a terminal's Ctrl-C reaches only the supervisor, which stops them in the
stated order; on Linux the kernel kills them when the supervisor itself is killed (PR_SET_PDEATHSIG), so it leaves no
orphan even after kill -9. Their output goes to one bounded log file each. It knows nothing of what the processes do,
beyond one line of JSON on standard output that says they are ready, and what their `Liveness` says from then on.

The event loop must run in the main thread: PR_SET_PDEATHSIG fires when the thread that started a process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from spillway.cli.log_file import LogFile

__all__ = ["Liveness", "ProcessSpec", "ProcessState", "ProcessStatus", "StartError", "Supervisor"]

BACKOFF_S = 0.2
BACKOFF_S_MAX = 10.0
# A process that has run so long has recovered: its next crash starts again at the shortest backoff.
STABLE_S = 30.0
# So many starts without ever being ready mean that it never will be.
STARTS_MAX = 3
# What a process answers to a wrong command line or configuration: trying again cannot help.
EXIT_USAGE = 2
LINE_CHARS_MAX = 65_536
READ_BYTES = 65_536
PR_SET_PDEATHSIG = 1


class ProcessState(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class StartError(Exception):
    """A process did not become ready. The message names it and its log."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """How to see whether a process that serves still answers.

    `answers` is asked (address, timeout in seconds) every `interval_s`, and takes no longer than its timeout, which is
    the same. A process that has not answered `misses_max` times in a row is killed, and so started again.
    """

    answers: Callable[[str, float], Awaitable[bool]]
    interval_s: float = 2.0
    misses_max: int = 3


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to keep running. It is ready when it prints a line of JSON whose "event" is `ready_event`.

    Without `liveness` it may hang unnoticed. Processes are stopped by rising `stop_rank`; equal ranks together.
    """

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    address: str = ""
    ready_event: str = "serving"
    stop_rank: int = 0
    liveness: Liveness | None = None


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process as it is now. `pid` is None while none runs; `restarts` counts since the start."""

    name: str
    state: ProcessState
    pid: int | None
    address: str
    restarts: int
    last_event: str


class Supervisor:
    """Runs processes until `stop`. Of one event loop; `on_change` is called in it after each change of a status."""

    def __init__(
        self, specs: Sequence[ProcessSpec], *, log_dir: Path, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._keepers = [_Keeper(spec, LogFile(log_dir / f"{spec.name}.log"), self._changed) for spec in specs]
        self._on_change = on_change
        self._change = asyncio.Event()

    def statuses(self) -> tuple[ProcessStatus, ...]:
        """All processes, in the order given."""
        return tuple(keeper.status for keeper in self._keepers)

    def start(self) -> None:
        """Start all processes at once; returns before they are ready."""
        for keeper in self._keepers:
            keeper.start()

    async def wait_serving(self, timeout_s: float) -> None:
        """Return when every process is ready. Raises StartError when one has failed for good, or time runs out."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._change.clear()
            for keeper in self._keepers:
                if keeper.status.state is ProcessState.FAILED:
                    raise StartError(keeper.failure())
            waiting = [keeper for keeper in self._keepers if keeper.status.state is not ProcessState.SERVING]
            if not waiting:
                return
            try:
                await asyncio.wait_for(self._change.wait(), deadline - time.monotonic())
            except TimeoutError:
                names = ", ".join(keeper.spec.name for keeper in waiting)
                raise StartError(f"not ready after {timeout_s:.0f} s: {names}\n{waiting[0].failure()}") from None

    async def stop(self, timeout_s: float) -> None:
        """End all processes: SIGTERM rank by rank, SIGKILL for what is still there after `timeout_s` of its rank."""
        for keeper in self._keepers:
            keeper.forget_restarts()
        for rank in sorted({keeper.spec.stop_rank for keeper in self._keepers}):
            ending = [keeper.stop(timeout_s) for keeper in self._keepers if keeper.spec.stop_rank == rank]
            await asyncio.gather(*ending)

    def kill(self) -> None:
        """Send SIGKILL to every process: the impatient end of a `stop` under way."""
        for keeper in self._keepers:
            keeper.signal(signal.SIGKILL)

    def _changed(self) -> None:
        self._change.set()
        self._on_change()


class _Keeper:
    """Keeps one process running."""

    def __init__(self, spec: ProcessSpec, log: LogFile, changed: Callable[[], None]) -> None:
        self.spec = spec
        self._log = log
        self._changed = changed
        self._state = ProcessState.STARTING
        self._address = spec.address
        self._restarts = 0
        self._last_event = ""
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._exit_code: int | None = None

    @property
    def status(self) -> ProcessStatus:
        pid = self._process.pid if self._process is not None else None
        return ProcessStatus(self.spec.name, self._state, pid, self._address, self._restarts, self._last_event)

    def failure(self) -> str:
        tail = "".join(f"  {line}\n" for line in self._log.tail())
        how = "has not said that it is ready" if self._exit_code is None else f"ended with code {self._exit_code}"
        return f"{self.spec.name} {how}; its log is {self._log.path}\n{tail}".rstrip()

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")

    def forget_restarts(self) -> None:
        self._stopping.set()

    async def stop(self, timeout_s: float) -> None:
        if self._task is None:
            return
        if not self._task.done():
            self._set(ProcessState.STOPPING)
        self.signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._task}, timeout=timeout_s)
        if not done:
            self.signal(signal.SIGKILL)
        await self._task
        self._log.close()
        self._set(ProcessState.STOPPED)

    async def _keep(self) -> None:
        failures = 0
        served_ever = False
        while not self._stopping.is_set():
            started_s = time.monotonic()
            served = await self._run_once()
            served_ever = served_ever or served
            if self._stopping.is_set():
                return
            if time.monotonic() - started_s >= STABLE_S:
                failures = 0
            failures += 1
            if not served_ever and (self._exit_code == EXIT_USAGE or failures >= STARTS_MAX):
                self._set(ProcessState.FAILED)
                return
            self._set(ProcessState.RESTARTING)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), min(BACKOFF_S_MAX, BACKOFF_S * 2 ** (failures - 1)))
            if not self._stopping.is_set():
                self._restarts += 1

    async def _run_once(self) -> bool:
        """Run the process once, to its end. True when it had been ready."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                env=dict(self.spec.environ),
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )
        except OSError as error:
            self._log.write(f"cannot start {self.spec.command[0]}: {error}\n".encode())
            self._exit_code = EXIT_USAGE
            return False
        self._process = process
        self._exit_code = None
        self._set(ProcessState.STARTING)
        if self._stopping.is_set():  # stop() came while the process was being made, and could not signal it
            self.signal(signal.SIGTERM)
        assert process.stdout is not None  # noqa: S101 - PIPE above
        assert process.stderr is not None  # noqa: S101
        ready = _Ready(self)
        await asyncio.gather(self._read(process.stdout, ready.line), self._read(process.stderr, self._note))
        self._exit_code = await process.wait()
        self._process = None
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
            self._watching = None
        self._log.write(f"--- {self.spec.name} ended with code {self._exit_code}\n".encode())
        return ready.seen

    async def _read(self, stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
        rest = ""
        while chunk := await stream.read(READ_BYTES):
            self._log.write(chunk)
            *lines, rest = (rest + chunk.decode(errors="replace")).split("\n")
            rest = rest[-LINE_CHARS_MAX:]
            for line in lines:
                on_line(line)

    def ready(self, address: str) -> None:
        self._address = address or self._address
        if not self._stopping.is_set():
            self._set(ProcessState.SERVING)
            if self.spec.liveness is not None and self._watching is None:
                self._watching = asyncio.create_task(self._watch(self.spec.liveness), name=f"watch {self.spec.name}")

    async def _watch(self, liveness: Liveness) -> None:
        """Kill the process once it answers no more. A miss costs one interval, however fast it is known."""
        misses, pause_s = 0, liveness.interval_s
        while misses < liveness.misses_max:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            asked_s = time.monotonic()
            if self._stopping.is_set():
                return
            alive = await liveness.answers(self._address, liveness.interval_s)
            misses = 0 if alive else misses + 1
            pause_s = liveness.interval_s if alive else max(0.0, liveness.interval_s - (time.monotonic() - asked_s))
        if not self._stopping.is_set():
            self._log.write(f"--- {self.spec.name} has not answered {misses} times in a row: killed\n".encode())
            self._last_event = "hung: killed"
            self.signal(signal.SIGKILL)

    def _note(self, line: str) -> None:
        if line.strip():
            value = _json_object(line)
            self._last_event = str(value.get("event", "")) if value else line.strip()
            self._changed()

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _set(self, state: ProcessState) -> None:
        self._state = state
        self._changed()


class _Ready:
    """Looks for the line that says a process is ready."""

    def __init__(self, keeper: _Keeper) -> None:
        self._keeper = keeper
        self.seen = False

    def line(self, text: str) -> None:
        value = _json_object(text)
        if value and value.get("event") == self._keeper.spec.ready_event:
            self.seen = True
            self._keeper.ready(str(value.get("listen") or value.get("url") or ""))


def _json_object(line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _die_with(parent_pid: int) -> Callable[[], None] | None:
    """What a new process does before it becomes its program: ask to be killed when its parent dies. Linux only."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the request was made
            os._exit(1)

    return ask
