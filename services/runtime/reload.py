"""Follows spillway.yaml while the process runs: a changed file is read, checked whole, and exchanged, or refused.

Promises: the content decides, looked at every `POLL_S` in a thread and at once on SIGHUP, so it does not matter how the
file was put there: written in place, renamed over, or a Kubernetes symlink that was swapped. What is just being written
is waited for. A file that is wrong, or whose secrets and artifacts cannot be had, changes nothing: it is logged once
with every problem, shown in metrics and health, and tried again while the trouble may lie outside of it. `reconfigure`
opens everything before it exchanges anything, so requests see either configuration whole. Nothing here ends the process
or the following of the file.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.runtime import logs
from services.runtime.clock import Clock
from services.runtime.config import ConfigError, Loaded, SecretError, parse, read_file
from services.runtime.logs import describe_exception, get_logger
from services.runtime.tasks import end_tasks
from spillway.configuration.document import Problem
from spillway.configuration.live_settings import change, differences

__all__ = ["POLL_S", "RETRY_S", "ConfigState", "Reconfigure", "Reloader", "takes_over_nothing"]

POLL_S: Final = 1.0
SETTLE_S: Final = 0.2
"""A changed file is read once more after this: who writes in place may not be done."""
RETRY_S: Final = 10.0
"""A good file that could not be applied is tried again: what it names may be there by then."""
SEARCH_S_MAX: Final = 0.5
"""How long `look_for` makes anybody wait."""
SEARCH_PAUSE_S: Final = 1.0
"""After a search that did not find its version none is made for so long."""

Reconfigure = Callable[[Loaded], Awaitable[None]]


async def takes_over_nothing(_: Loaded) -> None:
    """The `reconfigure` of a process that reads only settings which need a restart."""


@dataclass(frozen=True, slots=True)
class ConfigState:
    """The version of the file that was taken over, and since when.

    `refused`: what is wrong with the file as it is now, empty when it is good. `kept`: the paths of settings that
    differ in the file, and wait for a restart. `in_force`: while there are such, the version of the settings as this
    process works by them.
    """

    version: str
    since_unix_s: float
    refused: tuple[Problem, ...] = ()
    kept: tuple[str, ...] = ()
    in_force: str = ""


class Reloader:
    """One per process, for one event loop. `loaded` is what it was started with.

    `reconfigure` is given the settings to use, in which those that need a restart are as before, with the version of
    the file; it raises ConfigError or SecretError, and then has changed nothing. Without one everything needs a
    restart, but the log's level. `on_change` is told of every new state.
    """

    def __init__(
        self,
        service: str,
        loaded: Loaded,
        *,
        reconfigure: Reconfigure | None,
        clock: Clock,
        meter: Meter,
        on_change: Callable[[ConfigState], Awaitable[None]] | None = None,
    ) -> None:
        self._service = service
        self._started_with = loaded
        self._reconfigure = reconfigure
        self._clock = clock
        self._on_change = on_change
        self._level = loaded.settings.log.level
        self._state = ConfigState(loaded.version, clock.unix())
        self._seen = ""
        self._retry_at_s: float | None = None
        self._search: asyncio.Task[None] | None = None
        self._search_again_at_s = float("-inf")
        self._lock = asyncio.Lock()
        self._poll: asyncio.Task[None] | None = None
        self._hangups: set[asyncio.Task[None]] = set()
        self._log = get_logger(__name__)
        self._reloads = meter.create_counter(
            "spillway.config.reloads", unit="{reload}", description="Changed files, by what became of them."
        )
        for outcome in ("applied", "unchanged", "refused"):
            self._reloads.add(0, {"outcome": outcome})
        for name, read, text in (
            ("info", self._info, "1, with the version in force."),
            ("refused", self._refused, "1 while the file as it is now is refused."),
            ("needs_restart", self._kept, "Settings of the file that wait for a restart."),
            ("age", self._age, "Since the version in force was taken over."),
        ):
            meter.create_observable_gauge(
                f"spillway.config.{name}", [read], unit="s" if name == "age" else "", description=text
            )

    @property
    def state(self) -> ConfigState:
        """As of now."""
        return self._state

    def start(self) -> None:
        """Looks every POLL_S from now on, until `close`."""
        self._poll = asyncio.create_task(self._run(), name="config-reload")

    async def close(self) -> None:
        """Ends the looking."""
        tasks = {self._poll, self._search, *self._hangups} - {None}
        await end_tasks(task for task in tasks if task is not None)

    def hang_up(self) -> None:
        """SIGHUP: looks at once, and takes over the file even if it says the same; what it names may have changed."""
        task = asyncio.create_task(self.look(force=True))
        self._hangups.add(task)
        task.add_done_callback(self._hangups.discard)

    async def look(self, *, force: bool = False) -> None:
        """Takes over what stands in the file, if that is new. Raises nothing of its own."""
        if not self._is_watchable():
            return
        async with self._lock:
            raw, digest = await self._read()
            is_due = self._retry_at_s is not None and self._clock.monotonic() >= self._retry_at_s
            if digest == self._seen and not is_due and not force:
                return
            if digest != self._seen and not force:
                await self._clock.sleep(SETTLE_S)
                again = await self._read()
                if again[1] != digest:
                    return  # the next look will see what it has become
            self._seen = digest
            await self._take(raw, force=force)

    async def look_for(self, version: str) -> None:
        """Somebody works by this version: takes it over at once if the file has it. Waits `SEARCH_S_MAX` at most."""
        if self._search is None:
            if version == self._state.version or self._clock.monotonic() < self._search_again_at_s:
                return
            self._search = asyncio.create_task(self._seek(version))
        # Not `wait_for`: what is being taken over is taken over to its end, whoever stops waiting.
        await asyncio.wait({self._search}, timeout=SEARCH_S_MAX)

    async def _seek(self, version: str) -> None:
        try:
            async with self._lock:
                raw, digest = await self._read()
                if isinstance(raw, bytes) and version != self._state.version:
                    try:
                        found = await asyncio.to_thread(parse, raw, self._started_with.path)
                    except ConfigError:
                        found = None
                    if found is not None and found.version == version:
                        # Whoever goes by it has read it whole, so nobody is still writing.
                        self._seen = digest
                        await self._take(raw, force=False)
            if self._state.version != version:
                self._search_again_at_s = self._clock.monotonic() + SEARCH_PAUSE_S
        finally:
            self._search = None

    async def _run(self) -> None:
        if not self._is_watchable():
            self._log.info("config_not_followed", reason="it is no regular file", path=str(self._started_with.path))
            return
        while True:
            await self.look()
            await self._clock.sleep(POLL_S)

    def _is_watchable(self) -> bool:
        """Reading a pipe would wait for ever."""
        path = self._started_with.path
        return path.is_file() or not path.exists()

    async def _read(self) -> tuple[bytes | ConfigError, str]:
        """The file or what is wrong with it, and what tells it from another."""
        try:
            raw = await asyncio.to_thread(read_file, self._started_with.path)
        except ConfigError as error:
            return error, f"error: {error}"
        return raw, hashlib.sha256(raw).hexdigest()

    async def _take(self, raw: bytes | ConfigError, *, force: bool) -> None:
        self._retry_at_s = None
        if isinstance(raw, ConfigError):
            await self._refuse(raw.problems)
            return
        try:
            wanted = await asyncio.to_thread(parse, raw, self._started_with.path)
        except ConfigError as error:
            await self._refuse(error.problems)
            return
        if wanted.version == self._state.version and not force:
            await self._same()
            return
        try:
            state = await self._apply(wanted)
        except ConfigError as error:
            problems = error.problems
        except SecretError as error:  # names its place, never the secret
            problems = (Problem(0, "", str(error)),)
        except Exception as error:  # noqa: BLE001 - a defect of one change must not end the following of the next
            self._log.error("config_reload_failed", **describe_exception(error))
            problems = (Problem(0, "", f"cannot be applied: {type(error).__name__}"),)
        else:
            await self._applied(wanted, state)
            return
        self._retry_at_s = self._clock.monotonic() + RETRY_S
        await self._refuse(problems)

    async def _apply(self, wanted: Loaded) -> ConfigState:
        running = self._started_with.settings
        if self._reconfigure is None:
            kept = tuple(path for path in differences(running, wanted.settings) if path != "log.level")
            return ConfigState(self._state.version if kept else wanted.version, self._clock.unix(), kept=kept)
        made = change(self._service, running, wanted.settings)
        used = replace(wanted, settings=made.settings)
        await self._reconfigure(used)
        return ConfigState(
            wanted.version, self._clock.unix(), kept=made.kept, in_force=used.in_force if made.kept else ""
        )

    async def _applied(self, wanted: Loaded, state: ConfigState) -> None:
        if wanted.settings.log.level != self._level:
            self._level = wanted.settings.log.level
            logs.configure(service=self._service, level=self._level)
        before, kept_before = self._state.version, self._state.kept
        self._reloads.add(1, {"outcome": "applied"})
        self._log.info("config_reloaded", version=state.version, before=before)
        if state.kept and state.kept != kept_before:
            in_force = state.in_force or state.version
            self._log.warning("config_needs_restart", paths=list(state.kept), version=wanted.version, in_force=in_force)
        await self._enter(state)

    async def _same(self) -> None:
        """The file says what is in force, in other words or again."""
        self._reloads.add(1, {"outcome": "unchanged"})
        if self._state.refused:
            self._log.info("config_good_again", version=self._state.version)
        kept = () if self._reconfigure is None else self._state.kept  # then it says what it said at the start
        await self._enter(replace(self._state, refused=(), kept=kept))

    async def _refuse(self, problems: tuple[Problem, ...]) -> None:
        self._reloads.add(1, {"outcome": "refused"})
        if problems != self._state.refused:
            said = [str(problem) for problem in problems]
            self._log.error("config_refused", problems=said, version=self._state.version)
        await self._enter(replace(self._state, refused=problems))

    async def _enter(self, state: ConfigState) -> None:
        self._state = state
        if self._on_change is not None:
            await self._on_change(state)

    def _info(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(1, {"version": self._state.version})]

    def _refused(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(int(bool(self._state.refused)))]

    def _kept(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(len(self._state.kept))]

    def _age(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(max(0.0, self._clock.unix() - self._state.since_unix_s))]
