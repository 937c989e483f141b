"""`python -m services.ledger.report figures|rollout`: what `spillway report` and `spillway rollout` run.

Promises: reads the ledger's database, or decision logs put into one of their own that is gone afterwards; writes
nothing but the files that are asked for. Exit codes: 0 done, 1 the database or a log cannot be read, 2 wrong usage or
configuration, 3 (rollout) the evidence does not support the next step.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from rich.text import Text
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from services.ledger.database import DatabaseError, migrate, open_database, reading
from services.ledger.report.export import export, measures
from services.ledger.report.figures import make_report
from services.ledger.report.page import page
from services.ledger.report.rollout import BASELINE, ROUTED, Advice, Verdict, advise, arms_of, next_step
from services.ledger.report.source import Source, Window
from services.ledger.report.view import report_view
from services.ledger.rows import DecisionRows, decision_rows, record_from_json
from services.ledger.store import LedgerStore
from services.runtime.config import ConfigError, SecretError, load, read_secret
from services.runtime.errors import SpillwayError
from spillway.cli.terminal import open_console
from spillway.settings import Ledger, Rollout, Settings
from spillway.wire import WireError

EXIT_FAILED, EXIT_USAGE, EXIT_NOT_SUPPORTED = 1, 2, 3
DAYS_DEFAULT = 30
BATCH = 500
_DAY_S = 86_400.0
_SPAN = re.compile(r"^([0-9]+(?:\.[0-9]+)?)([mhd])$")
_SECONDS = {"m": 60.0, "h": 3_600.0, "d": _DAY_S}


class UsageError(Exception):
    """The command line makes no sense. The message says why."""


class LogError(Exception):
    """A decision log cannot be read. The message says which line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options)
        window = _window(options, time.time())
        with _opened(options, settings) as connection:
            if options.command == "rollout":
                return _rollout(options, settings, Source(connection, window))
            return _figures(options, settings, Source(connection, window), window)
    except (UsageError, ConfigError, SecretError, ValueError) as error:
        sys.stderr.write(f"spillway {options.command_name}: {error}\n")
        return EXIT_USAGE
    except (LogError, DatabaseError, OSError) as error:
        sys.stderr.write(f"spillway {options.command_name}: {error}\n")
        return EXIT_FAILED
    except SQLAlchemyError as error:
        sys.stderr.write(f"spillway {options.command_name}: the ledger cannot be read ({type(error).__name__})\n")
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", type=Path, help="spillway.yaml; default: as every service finds it")
    shared.add_argument("--database", default="", help="the ledger's; default: ledger.database_url")
    shared.add_argument("--log", type=Path, action="append", default=[], help="decision logs instead; repeatable")
    shared.add_argument("--since", default="", help="a time (ISO 8601), or an age such as 30d, 12h; default: 30d")
    shared.add_argument("--until", default="", help="the same; default: now")
    shared.add_argument("--tenant", help="of this tenant alone")
    shared.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser = argparse.ArgumentParser(prog="python -m services.ledger.report")
    commands = parser.add_subparsers(dest="command", required=True)
    figures = commands.add_parser("figures", parents=[shared], help="cost, savings and quality")
    figures.add_argument("--html", type=Path, help="write them as a page with plots, too")
    figures.add_argument("--export", type=Path, action="append", default=[], help="FILE.csv, .json or .parquet")
    figures.set_defaults(command_name="report")
    rollout = commands.add_parser("rollout", parents=[shared], help="whether the next step is supported")
    rollout.add_argument("--task-type", default="", help="of this kind of work alone")
    rollout.set_defaults(command_name="rollout")
    return parser


def _settings(options: argparse.Namespace) -> Settings | None:
    """The configuration; None where one that cannot be used here is not needed: it has the order of the tiers only."""
    try:
        return load(options.config).settings
    except ConfigError:
        if options.config is None and (options.log or options.database):
            return None
        raise


def _figures(options: argparse.Namespace, settings: Settings | None, source: Source, window: Window) -> int:
    report = make_report(source, [tier.name for tier in settings.tiers] if settings else ())
    title = _title(window)
    if options.html is not None:
        options.html.write_text(page(report, title), encoding="utf-8")
    for path in options.export:
        export(report, path)
    if options.json:
        sys.stdout.write(json.dumps([_as_json(each) for each in measures(report)], indent=1) + "\n")
    else:
        open_console().print(report_view(report, title))
    return 0


def _rollout(options: argparse.Namespace, settings: Settings | None, source: Source) -> int:
    rollout = settings.policy.rollout if settings else Rollout()
    percent = rollout.percent
    for task_type, own in rollout.task_types.items():
        if task_type == options.task_type:
            percent = own
    arms = arms_of(source.decided(), source.remarks(), source.graded(), options.task_type)
    advice = advise(arms[ROUTED], arms[BASELINE])
    step = next_step(percent, advice.verdict)
    if options.json:
        words: dict[str, Any] = {
            "verdict": advice.verdict,
            "reasons": advice.reasons,
            "percent": percent,
            "next": step,
            "arms": {name: {"requests": arm.requests, "failed": arm.failed} for name, arm in arms.items()},
        }
        sys.stdout.write(json.dumps(words, indent=1) + "\n")
    else:
        _say(advice, percent, step, options.task_type)
    return 0 if advice.verdict is Verdict.GO else EXIT_NOT_SUPPORTED


def _say(advice: Advice, percent: float, step: float, task_type: str) -> None:
    console = open_console()
    what = f"{task_type} is" if task_type else "policy.rollout.percent is"
    sentence = {
        Verdict.GO: f"the evidence supports {step:g} %" if step > percent else "the rollout is complete, and well",
        Verdict.WAIT: "the evidence does not say yet: stay",
        Verdict.BACK: f"harm is shown: go back to {step:g} %",
    }[advice.verdict]
    console.print(Text(f"{what} {percent:g} %; {sentence}", style="bold"))
    for reason in advice.reasons:
        console.print(Text(f"  {reason}"))


def _window(options: argparse.Namespace, now_unix_s: float) -> Window:
    """Of logs, by default all there is."""
    until = _moment(options.until, now_unix_s, "--until") if options.until else now_unix_s
    if options.since:
        since = _moment(options.since, now_unix_s, "--since")
    else:
        since = 0.0 if options.log else until - DAYS_DEFAULT * _DAY_S
    if since >= until:
        raise UsageError("--since must be before --until")
    return Window(since, until, options.tenant)


def _moment(text: str, now_unix_s: float, name: str) -> float:
    if found := _SPAN.match(text):
        return now_unix_s - float(found[1]) * _SECONDS[found[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{name}: {text!r} is neither a time such as 2026-11-01 nor an age such as 30d") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@contextmanager
def _opened(options: argparse.Namespace, settings: Settings | None) -> Iterator[Connection]:
    """A transaction that only reads."""
    if options.log:
        with tempfile.TemporaryDirectory(prefix="spillway-report-") as directory:
            engine = open_database(f"sqlite:///{directory}/ledger.sqlite", connections_max=1)
            migrate(engine)
            _fill(engine, options.log)
            with reading(engine).begin() as connection:
                yield connection
            engine.dispose()
        return
    ledger = settings.ledger if settings else Ledger()
    url = options.database or ledger.database_url
    file = url.removeprefix("sqlite:///") if url.startswith("sqlite:") else ""
    if file and not Path(file).expanduser().is_file():
        raise DatabaseError(f"there is no ledger at {file}; name another with --database, or decision logs with --log")
    password = read_secret(ledger.database_password_env, "") if ledger.database_password_env else ""
    engine = open_database(url, password=password, connections_max=1)
    with reading(engine).begin() as connection:
        yield connection
    engine.dispose()


def _fill(engine: Engine, logs: Sequence[Path]) -> None:
    store = LedgerStore(engine)
    for path in logs:
        with path.open(encoding="utf-8") as file:
            numbered = ((number, line) for number, line in enumerate(file, 1) if line.strip())
            while batch := [_rows(path, number, line) for number, line in islice(numbered, BATCH)]:
                store.record_decisions(batch)


def _rows(path: Path, number: int, line: str) -> DecisionRows:
    try:
        return decision_rows(record_from_json(line))
    except (json_format.ParseError, WireError, SpillwayError) as error:
        raise LogError(f"{path}:{number}: is no decision record ({error})") from error


def _title(window: Window) -> str:
    since, until = (
        datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")
        for moment in (window.since_unix_s, window.until_unix_s)
    )
    whose = "all tenants" if window.tenant is None else f"tenant {window.tenant or '(none)'}"
    return f"{since} to {until} UTC, {whose}" if window.since_unix_s else f"until {until} UTC, {whose}"


def _as_json(measure: Any) -> dict[str, Any]:
    return {name: getattr(measure, name) for name in ("section", "name", "measure", "value", "low", "high")}


if __name__ == "__main__":
    sys.exit(main())
