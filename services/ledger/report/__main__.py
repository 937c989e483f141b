"""`python -m services.ledger.report figures|rollout`: what `spillway report` and `spillway rollout` run.

Promises: reads the ledger's database, or decision logs put into one of their own that is gone afterwards; writes
nothing but the files that are asked for. Exit codes: 0 done, 1 the database or a log cannot be read, 2 wrong usage or
configuration, 3 (rollout) the evidence does not support the next step. What a log or a ledger says commands no
terminal.
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
from services.ledger.report.evidence import Evidence, gather
from services.ledger.report.export import export, measures
from services.ledger.report.figures import make_report
from services.ledger.report.names import harmless, visible
from services.ledger.report.page import page
from services.ledger.report.rollout import Advice, Verdict, advise, next_step
from services.ledger.report.source import Source, Window
from services.ledger.report.view import report_view
from services.ledger.rows import DecisionRows, decision_rows, record_from_json
from services.ledger.store import LedgerStore
from services.runtime.config import ConfigError, SecretError, load, read_secret
from services.runtime.errors import SpillwayError
from spillway.cli.terminal import harmless_json, open_console, usd
from spillway.intervals import Interval
from spillway.routing import TaskType
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
                return _rollout(options, settings.policy.rollout if settings else Rollout(), Source(connection, window))
            return _figures(options, settings, Source(connection, window), window)
    except (UsageError, ConfigError, SecretError, ValueError) as error:
        sys.stderr.write(f"spillway {options.command_name}: {harmless(str(error))}\n")
        return EXIT_USAGE
    except OSError as error:
        sys.stderr.write(f"spillway {options.command_name}: {harmless(_cannot(error))}\n")
        return EXIT_FAILED
    except (LogError, DatabaseError) as error:
        sys.stderr.write(f"spillway {options.command_name}: {harmless(str(error))}\n")
        return EXIT_FAILED
    except SQLAlchemyError as error:
        sys.stderr.write(f"spillway {options.command_name}: the ledger cannot be read ({type(error).__name__})\n")
        return EXIT_FAILED


def _cannot(error: OSError) -> str:
    """Of a file that is to be read or written, in words."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


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
    kinds = [each.value for each in TaskType]
    rollout.add_argument("--task-type", default="", choices=kinds, help="of this kind of work alone")
    rollout.set_defaults(command_name="rollout")
    return parser


def _settings(options: argparse.Namespace) -> Settings | None:
    """The configuration; None where one that cannot be used here is not needed: for figures it has the order of the
    tiers only. A rollout is what it says, so then it must be sound."""
    try:
        return load(options.config).settings
    except ConfigError:
        if options.command != "rollout" and options.config is None and (options.log or options.database):
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
        sys.stdout.write(harmless_json(json.dumps([_as_json(each) for each in measures(report)], indent=1)) + "\n")
    else:
        open_console().print(report_view(report, title))
    for path in (*([options.html] if options.html else []), *options.export):
        sys.stderr.write(f"written: {path}\n")
    return 0


def _rollout(options: argparse.Namespace, rollout: Rollout, source: Source) -> int:
    own = {str(task_type): percent for task_type, percent in rollout.task_types.items()}
    percent = own.get(options.task_type, rollout.percent)
    without = () if options.task_type else tuple(own)
    if len(without) == len(TaskType):
        raise UsageError("every kind of work has a percentage of its own: choose one with --task-type")
    evidence = gather(source.trials(), source.remarks(), source.graded(), options.task_type, without)
    advice = advise(evidence, percent)
    step = next_step(percent, advice.verdict)
    if options.json:
        words = {
            "verdict": advice.verdict,
            "reasons": advice.reasons,
            "percent": percent,
            "next": step,
            "without": without,
            "arms": {name: _arm_as_json(evidence, name) for name in evidence.arms},
            "differences": {
                name: _interval_as_json(found)
                for name, found in (("negative", advice.negative), ("failed", advice.failed), ("grade", advice.grade))
            },
        }
        sys.stdout.write(harmless_json(json.dumps(words, indent=1)) + "\n")
    else:
        _say(advice, evidence, percent, step, options.task_type, without)
    return 0 if advice.verdict in {Verdict.GO, Verdict.COMPLETE} else EXIT_NOT_SUPPORTED


def _say(
    advice: Advice, evidence: Evidence, percent: float, step: float, task_type: str, without: Sequence[str]
) -> None:
    console = open_console()
    what = f"{task_type} is" if task_type else "policy.rollout.percent is"
    sentence = {
        Verdict.GO: f"the evidence supports {step:g} %",
        Verdict.WAIT: "the evidence does not say yet: stay",
        Verdict.BACK: f"harm is shown: go back to {step:g} %",
        Verdict.COMPLETE: "the rollout is complete",
    }[advice.verdict]
    console.print(Text(f"{what} {percent:g} %; {sentence}", style="bold"))
    for reason in advice.reasons:
        console.print(Text(f"  {visible(reason)}"))
    arms = ", ".join(
        f"{name} {arm.requests:,} requests, {arm.failed:,} failed ({arm.failed_tries:,} more tries)"
        for name, arm in evidence.arms.items()
    )
    console.print(Text(f"  counted: {arms}"))
    if advice.costs:
        routed, baseline = (usd(round(cost)) for cost in advice.costs)
        console.print(
            Text(f"  cost a request, over the same mix of work: {routed} routed, {baseline} with the baseline")
        )
    if without:
        console.print(Text(f"  not counted, with percentages of their own (--task-type): {', '.join(without)}"))


def _arm_as_json(evidence: Evidence, name: str) -> dict[str, Any]:
    arm = evidence.arms[name]
    return {
        "requests": arm.requests,
        "failed": arm.failed,
        "failed_tries": arm.failed_tries,
        "negative": arm.negative,
        "cost_usd": arm.cost_nanousd / 1e9,
    }


def _interval_as_json(value: Interval | None) -> dict[str, float] | None:
    return None if value is None else {"value": value.value, "low": value.low, "high": value.high}


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
