"""`spillway cache`: what the caches have counted and know of their errors; entries taken out of them.

Promises: nothing is removed before what was said makes sense, and nothing of a whole tenant before somebody said yes.
Ends with 1 when a cache that was to remove something did not answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from spillway.cli.addresses import NoServiceError, find_addresses
from spillway.cli.caches import NOT_ADMITTED, CacheStats, ClassStats, Removal, Selection, ask_all, remove_from, wrong_in
from spillway.cli.certificates import adopt
from spillway.cli.state import read_state
from spillway.cli.terminal import harmless_json, open_console, percent

__all__ = ["register", "removals_json", "removals_view", "stats_json", "stats_view"]

Run = Callable[..., None]

Target = Annotated[
    str, typer.Option(help="Addresses of caches; default: the suite of this directory, the configuration.")
]
Config = Annotated[Path | None, typer.Option(help="spillway.yaml that names the caches.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print all that is known, or the error, as JSON.")]

_OPTIONS: Final = {"entry_key": "entry"}
_ASKED: Final = "Is the suite running? Another address: --target."
_AWAY: Final = frozenset({"unavailable", "deadline exceeded"})


def register(app: typer.Typer, run: Run) -> None:
    """Adds `cache`. `run` runs a command that talks to the suite."""
    cache_app = typer.Typer(help="The cache: what it knows of itself, and removing entries.", no_args_is_help=True)
    app.add_typer(cache_app, name="cache")

    @cache_app.command()
    def stats(target: Target = "", config: Config = None, as_json: AsJson = False) -> None:
        """Show what each cache has counted since its start, and how often each class of its questions is wrong."""

        def show() -> None:
            seen = asyncio.run(ask_all(_find(target, config)))
            if all(one.error for one in seen):
                raise _no_answer([(one.address, one.error) for one in seen])
            if as_json:
                print(stats_json(seen))
            else:
                open_console().print(stats_view(seen))

        run(show, as_json=as_json)

    @cache_app.command()
    def invalidate(  # noqa: PLR0917 - the options of a command are its arguments
        tenant: Annotated[str | None, typer.Option(help="Of this tenant; '' is the one without a name.")] = None,
        namespace: Annotated[str | None, typer.Option(help="Of this namespace.")] = None,
        template_version: Annotated[str | None, typer.Option(help="Of this version of the template.")] = None,
        knowledge_version: Annotated[str | None, typer.Option(help="Of this version of the knowledge.")] = None,
        tag: Annotated[str | None, typer.Option(help="With this tag.")] = None,
        entry: Annotated[str | None, typer.Option(help="The one with this key, as decision records name it.")] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count, remove nothing.")] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Remove all of a tenant without asking.")] = False,
        target: Target = "",
        config: Config = None,
        as_json: AsJson = False,
    ) -> None:
        """Remove the entries for which all that is said holds. They are not served any more when it returns.

        A tenant is needed, unless an entry is named.
        """
        selection = Selection(tenant, namespace, template_version, knowledge_version, tag, entry)
        if faults := [f"--{_option(name)} {what}" for name, what in wrong_in(selection)]:
            raise typer.BadParameter("; ".join(faults))
        asks = selection.takes_all_of_a_tenant and not yes and not dry_run
        if asks and not sys.stdin.isatty():
            raise typer.BadParameter("that takes every answer of the tenant: say --yes, or count them with --dry-run")

        def remove() -> None:
            addresses = _find(target, config)
            if asks:
                _ask_first(addresses, selection)
            _remove(addresses, selection, dry_run=dry_run, as_json=as_json)

        run(remove, as_json=as_json)


def stats_json(seen: Sequence[CacheStats]) -> str:
    """All that is known, for programs."""
    return harmless_json(json.dumps({"caches": [asdict(one) for one in seen]}, indent=2, ensure_ascii=False))


def stats_view(seen: Sequence[CacheStats]) -> RenderableType:
    """A part for each cache, in it a row for each class."""
    parts: list[RenderableType] = []
    for one in seen:
        if one.error:
            parts.append(Text.assemble((one.address, "bold"), (f" no answer: {one.error}", "red")))
            continue
        parts.append(Text.assemble((one.address, "bold"), " since its start"))
        parts.append(_counts(one))
        parts.append(_classes(one.classes) if one.classes else Text(" nothing was looked up by meaning yet", "dim"))
    return Group(*parts)


def removals_json(done: Sequence[Removal], *, dry_run: bool) -> str:
    """All that is known, for programs."""
    value = {"dry_run": dry_run, "caches": [asdict(one) for one in done]}
    return harmless_json(json.dumps(value, indent=2, ensure_ascii=False))


def removals_view(done: Sequence[Removal], *, dry_run: bool) -> RenderableType:
    """What became of it in each cache."""
    lines = []
    for one in done:
        where = f"{one.address}: " if len(done) > 1 else ""
        if one.error:
            lines.append(Text(f"{one.address}: {one.error}{_what_to_do(one, done, dry_run=dry_run)}", "red"))
            continue
        what = "would be removed" if dry_run else "removed"
        lines.append(Text(f"{where}{_entries(one.entries)} {what}"))
    return Group(*lines)


def _find(target: str, config: Path | None) -> tuple[str, ...]:
    addresses = find_addresses("cache", target, config, os.environ, Path.cwd())
    if not target and config is None and (state := read_state(Path.cwd())) is not None:
        adopt(state.certificates)
    if not addresses:
        raise _no_answer([])
    return addresses


def _ask_first(addresses: Sequence[str], selection: Selection) -> None:
    """Counts, and goes on only with a yes."""
    found = asyncio.run(remove_from(addresses, selection, dry_run=True))
    if all(one.error for one in found):
        raise _no_answer([(one.address, one.error) for one in found])
    most = max(one.entries for one in found if not one.error)
    whose = f"tenant {selection.tenant!r}" if selection.tenant else "the tenant without a name"
    several = f" in each of {len(found)} caches, at most," if len(found) > 1 else ""
    typer.confirm(f"{_entries(most)}{several} of {whose}: all that there is. Remove?", abort=True, err=True)


def _remove(addresses: Sequence[str], selection: Selection, *, dry_run: bool, as_json: bool) -> None:
    done = asyncio.run(remove_from(addresses, selection, dry_run=dry_run))
    if all(one.error in _AWAY for one in done):
        raise _no_answer([(one.address, one.error) for one in done])
    if as_json:
        print(removals_json(done, dry_run=dry_run))
    else:
        open_console().print(removals_view(done, dry_run=dry_run), soft_wrap=True)
    if any(one.error for one in done):
        raise typer.Exit(1)


def _no_answer(tried: Sequence[tuple[str, str]]) -> NoServiceError:
    where = ", ".join(f"{address} ({error})" for address, error in tried) or "no address"
    is_away = all(error in _AWAY for _, error in tried)
    return NoServiceError(f"no cache answers: {where}" + (f"\n{_ASKED}" if is_away else ""))


def _counts(one: CacheStats) -> Table:
    rows = Table.grid(padding=(0, 2, 0, 1))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column()
    overtaken = f" ({one.overtaken:,} of them invalidated meanwhile)" if one.overtaken else ""
    hits = f"{one.exact_hits:,} the same request, {one.semantic_hits:,} by meaning"
    away = f", {one.unavailable:,} while the store was away" if one.unavailable else ""
    rows.add_row("lookups", f"{one.lookups:,}: {hits}{away}")
    rows.add_row("stored", f"{one.stored:,}; not admitted {one.not_admitted:,}{overtaken}; dropped {one.dropped:,}")
    places = f"{one.indexed_entries:,} entries by meaning, in {one.partitions:,} partitions"
    rows.add_row("index", f"{places}; evicted {one.evicted:,} for lack of room")
    return rows


def _classes(classes: Sequence[ClassStats]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("class", overflow="fold", style="bold")
    for name in ("by meaning", "hits", "outcomes", "checked", "wrong"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("of all, 95 %", no_wrap=True)
    table.add_column("serves", no_wrap=True)
    for one in classes:
        rate = f"{percent(one.wrong_rate, 2)} [{one.wrong_rate_low * 100:.2f}, {one.wrong_rate_high * 100:.2f}]"
        serves = Text("the same words") if one.threshold is None else Text(f"P ≥ {one.threshold:.3f}", "green")
        table.add_row(
            Text(one.name),
            f"{one.lookups:,}",
            f"{one.hits:,}",
            f"{one.outcomes:,}",
            f"{one.checked:,}",
            Text(f"{one.wrong:,}", style="red" if one.wrong else ""),
            rate,
            serves,
        )
    return table


def _what_to_do(failed: Removal, done: Sequence[Removal], *, dry_run: bool) -> str:
    """Where it is not known whether entries were removed."""
    if dry_run or failed.error == NOT_ADMITTED:
        return ""
    answered = any(not one.error for one in done)
    return "; invalidate again" + (", unless it shares a Redis with one that answered" if answered else "")


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _option(name: str) -> str:
    return _OPTIONS.get(name, name).replace("_", "-")
