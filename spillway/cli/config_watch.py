"""What becomes of a changed configuration file while `spillway up` runs: taken over, refused and why, or in need of a
restart.

Promises: each is said once, when it has come about; while the file stays as it is and nothing of it is refused, nobody
is asked anything. The processes say what they did, the file what is wrong with it, as `spillway config check` does.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from rich.text import Text

from spillway.cli.health import ServiceHealth, refusal_notes, restart_notes
from spillway.configuration.document import Problem

__all__ = ["follow_configuration", "news"]

LOOK_S: Final = 1.0
ASKS_MAX: Final = 10
"""After so many looks at a changed file it is said what the processes have done, even if they do not agree."""

Seen = Sequence[ServiceHealth]


def news(before: Seen, now: Seen, problems: Sequence[Problem] = ()) -> list[Text]:
    """What is to be said of the change from one to the other; `problems` are those of the file at hand."""
    was, is_now = _refusing(before), _refusing(now)
    if is_now:
        return refusal_notes(now, problems) if is_now != was else []
    lines: list[Text] = []
    versions = sorted({one.config_version for one in now if one.config_version})
    if versions != sorted({one.config_version for one in before if one.config_version}):
        lines.append(Text(f"the configuration is taken over: version {' and '.join(versions)}", "green"))
    elif was:
        lines.append(Text(f"the configuration is good again: version {' and '.join(versions)}", "green"))
    kept = {(one.service, one.needs_restart) for one in before}
    return lines + restart_notes([one for one in now if (one.service, one.needs_restart) not in kept])


async def follow_configuration(
    file: Path,
    ask: Callable[[], Awaitable[Seen]],
    check: Callable[[], Sequence[Problem]],
    say: Callable[[Text], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Until cancelled. `ask` says how the processes are, `check` what is wrong with the file now."""
    known, digest = await ask(), _digest(file)
    asks, unsaid = 0, False
    while True:
        await sleep(LOOK_S)
        found = _digest(file)
        if found != digest:
            digest, asks, unsaid = found, ASKS_MAX, True
        if not asks and not _refusing(known):
            continue
        seen = await ask()
        asks = max(0, asks - 1)
        if asks and not _are_done(known, seen):
            continue  # some have yet to look at it
        problems = check()
        lines = news(known, seen, problems)
        if unsaid and not lines:  # wrong in the same places as before it was changed
            lines = refusal_notes(seen, problems)
        for line in lines:
            say(line)
        known, asks, unsaid = seen, 0, False


def _are_done(before: Seen, now: Seen) -> bool:
    """Whether all that answer have come to the same end with the file."""
    ends = {one.config_refused or one.config_version for one in now if not one.error}
    return len(ends) == 1 and ends != {one.config_refused or one.config_version for one in before if not one.error}


def _refusing(seen: Seen) -> set[tuple[str, str]]:
    return {(one.service, one.config_refused) for one in seen if one.config_refused}


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        return type(error).__name__
