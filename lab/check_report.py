"""Whether a report's figures are those of the raw decision log: `python -m lab.check_report LOG [--database URL]`.

Promises: independent. It reads the JSON lines with nothing of the suite, counts again what the report counts (by its
definitions, docs/ledger.md), asks `python -m services.ledger.report figures --json` for the report of the log or of a
ledger that was told the same, and compares every figure with its interval, in both directions. Exit codes: 0 all agree,
1 one does not, or one is in one of the two alone. What people and judges said is not in a decision log, so of a report
with feedback or grades those figures are named, not compared.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

Line = dict[str, Any]
Key = tuple[str, str, str]
Figure = tuple[float, float | None, float | None]

Z: Final = 1.959963984540054
TOLERANCE: Final = 1e-9
GROUPS_MAX: Final = 20
REPEATED_S: Final = 3_600.0
SAME_REQUEST_S: Final = 86_400.0
DRIFT_LEAST: Final = 500
_ANSWERING: Final = {"PURPOSE_ANSWER", "PURPOSE_HEDGE"}
_UNAVAILABLE: Final = {"OUTCOME_ERROR", "OUTCOME_TIMEOUT", "OUTCOME_THROTTLED"}
_GIVEN: Final = {"OUTCOME_ACCEPTED", "OUTCOME_REJECTED"}
_ELSEWHERE: Final = {
    *("grades", "grade", "grade_difference", "disliked", "regenerated", "complained"),
    *("canary_cost_usd", "audits_cost_usd", "canary_grades"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab.check_report")
    parser.add_argument("log", type=Path, help="a decision log, JSON lines")
    parser.add_argument("--database", default="", help="compare with the report of this ledger")
    parser.add_argument("--tiers", default="", help="the ladder's tiers, cheapest first, with commas")
    parser.add_argument("--config", default="", help="the configuration that the report reads")
    options = parser.parse_args(arguments)
    lines = [json.loads(line) for line in options.log.read_text(encoding="utf-8").splitlines() if line.strip()]
    expected = figures(lines, [name for name in options.tiers.split(",") if name])
    where = ["--database", options.database, "--since", "1970-01-02"] if options.database else ["--log", options.log]
    config = ["--config", options.config] if options.config else []
    command = [sys.executable, "-m", "services.ledger.report", "figures", "--json", *map(str, where), *config]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603 - of this file's making
    if done.returncode:
        return 1
    said = json.loads(done.stdout)
    found = {(row["section"], row["name"], row["measure"]): (row["value"], row["low"], row["high"]) for row in said}
    elsewhere = {key for key in found if key[2] in _ELSEWHERE or key[0] == "feedback"}
    differences = compare(expected, {key: value for key, value in found.items() if key not in elsewhere})
    for difference in differences:
        sys.stdout.write(f"{difference}\n")
    sys.stdout.write(
        f"{len(lines)} lines, {len(expected)} figures recomputed, {len(differences)} differ; "
        f"{len(elsewhere)} of feedback, grades and what they cost are not in a log\n"
    )
    return 1 if differences else 0


def compare(expected: dict[Key, Figure], found: dict[Key, Figure]) -> list[str]:
    """One sentence for each figure on which the two do not agree."""
    wrong = [f"{key}: not in the report" for key in sorted(expected.keys() - found.keys())]
    wrong += [f"{key}: not recomputed" for key in sorted(found.keys() - expected.keys())]
    for key in sorted(expected.keys() & found.keys()):
        pairs = zip(expected[key], found[key], strict=True)
        if any((a is None) != (b is None) or not _close(a or 0.0, b or 0.0) for a, b in pairs):
            wrong.append(f"{key}: {found[key]} in the report, {expected[key]} in the log")
    return wrong


def figures(lines: Sequence[Line], order: Sequence[str] = ()) -> dict[Key, Figure]:
    """What a report of these lines has to say."""
    runs = _once(lines)
    counting = _last_runs(runs)
    out: dict[Key, Figure] = {}
    _cohort(out, "all", "all", runs, counting)
    kinds: dict[str, Callable[[Line], Iterable[str]]] = {
        "task type": lambda line: (
            [_word(_judged(line).get("task_type", "TASK_TYPE_OTHER"), "TASK_TYPE_")]
            if _judged(line)
            else ["(not judged)"]
        ),
        "user tier": lambda line: [line.get("user_tier") or "(none)"],
        "arm": lambda line: [arm] if (arm := line.get("routing", {}).get("arm", "")) else [],
        "tenant": lambda line: [line.get("tenant") or "(none)"],
        "endpoint": lambda line: [line.get("endpoint") or "(none)"],
        "tag": lambda line: line.get("tags", []),
        "day": lambda line: [f"{_received(line).astimezone(UTC):%Y-%m-%d}"],
    }
    for kind, names_of in kinds.items():
        groups: dict[str, list[Line]] = defaultdict(list)
        for line in runs:
            for name in names_of(line):
                groups[name].append(line)
        if kind != "day" and len(groups) > GROUPS_MAX:
            raise SystemExit(f"more than {GROUPS_MAX} of {kind}: the report puts some together, and this does not")
        for name, mine in groups.items():
            _cohort(out, kind, name, mine, counting)
    _tiers(out, runs, counting, order)
    _hops(out, runs)
    _judgements(out, [line for line in runs if id(line) in counting])
    judges = [each for line in runs for each in _attempts(line) if each["purpose"] not in _ANSWERING]
    out["all", "all", "gates_cost_usd"] = _plain(sum(map(_cost, judges)) * 1e-9)
    bounded = sum(int(each.get("cost_excess_nanousd", 0)) > 0 for line in runs for each in _attempts(line))
    out["all", "all", "calls_bounded"] = _plain(bounded)
    unknown = sum(bool(line.get("cost_unknown")) for line in runs if id(line) in counting)
    out["all", "all", "cost_unknown"] = _plain(unknown)
    return out


def _once(lines: Sequence[Line]) -> list[Line]:
    """Each failed run of a request id and each answer that is no repetition of one, oldest first."""
    runs: dict[tuple[str, str, str], Line] = {}
    answers: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        if line.get("status_code"):
            runs.setdefault((line.get("tenant", ""), line["request_id"], line["received_at"]), line)
        else:
            same = answers[line.get("tenant", ""), line["request_id"]]
            if all(_apart_s(line, each) > REPEATED_S for each in same) or (line.get("job_id") and not same):
                same.append(line)
    return sorted((*runs.values(), *(line for each in answers.values() for line in each)), key=_received)


def _last_runs(runs: Sequence[Line]) -> set[int]:
    """The ids (of Python) of the runs that count as requests: answers, and the last of those that failed."""
    by_id: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in runs:
        by_id[line.get("tenant", ""), line["request_id"]].append(line)
    counting: set[int] = set()
    for same in by_id.values():
        for line in same:
            near = [each for each in same if each is not line and _apart_s(each, line) <= SAME_REQUEST_S]
            later = [each for each in near if not each.get("status_code") or _received(each) > _received(line)]
            if not line.get("status_code") or not later:
                counting.add(id(line))
    return counting


def _apart_s(one: Line, other: Line) -> float:
    return abs((_received(one) - _received(other)).total_seconds())


def _cohort(out: dict[Key, Figure], kind: str, name: str, lines: Sequence[Line], counting: set[int]) -> None:
    last = [line for line in lines if id(line) in counting]
    answered = [line for line in last if not line.get("status_code")]
    shared = [line for line in answered if line.get("shared")]
    own = [line for line in answered if not line.get("shared")]
    exact, semantic = ([line for line in own if _cache(line) == hit] for hit in ("KIND_EXACT_HIT", "KIND_SEMANTIC_HIT"))
    models = [line for line in own if _cache(line) not in {"KIND_EXACT_HIT", "KIND_SEMANTIC_HIT"}]
    excess = sum(_excess(line) for line in lines)
    cost = sum(int(line.get("cost", {}).get("cost_nanousd", 0)) for line in lines) - excess
    flagship = sum(int(line.get("cost", {}).get("flagship_cost_nanousd", 0)) for line in answered)
    values = {
        "requests": len(last),
        "failed": len(last) - len(answered),
        "failed_tries": len(lines) - len(last),
        "cost_usd": cost * 1e-9,
        "cost_excess_usd": excess * 1e-9,
        "flagship_cost_usd": flagship * 1e-9,
        "exact_hits": len(exact),
        "semantic_hits": len(semantic),
        "shared": len(shared),
        "fallbacks": sum(line.get("fallbacks", 0) for line in lines),
    }
    out.update({(kind, name, measure): _plain(value) for measure, value in values.items()})
    if flagship:
        out[kind, name, "savings"] = _plain(1 - cost / flagship)
    if models:
        out[kind, name, "escalated"] = _share(sum(line.get("escalations", 0) > 0 for line in models), len(models))
        out[kind, name, "accepted"] = _share(sum(bool(line.get("accepted")) for line in models), len(models))
    _latency(out, kind, name, [_seconds(line["latency"]) for line in last if "latency" in line])


def _tiers(out: dict[Key, Figure], runs: Sequence[Line], counting: set[int], order: Sequence[str]) -> None:
    asked: Counter[str] = Counter()
    unavailable: Counter[str] = Counter()
    gave: Counter[str] = Counter()
    left: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    checked: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for line in runs:
        tiers: dict[str, set[str]] = {}
        for each in _attempts(line):
            cost[each["tier"]] += _cost(each)
            for verdict in each.get("verdicts", ()):
                if verdict["gate"] == "schema":
                    checked[each["tier"]] += 1
                    wrong[each["tier"]] += verdict["verdict"] == "VERDICT_FAIL"
            if each["purpose"] in _ANSWERING and each["outcome"] != "OUTCOME_SKIPPED":
                tiers.setdefault(each["tier"], set()).add(each["outcome"])
        for tier, outcomes in tiers.items():
            asked[tier] += 1
            unavailable[tier] += bool(outcomes & _UNAVAILABLE)
            gave[tier] += bool(outcomes & _GIVEN)
            left[tier] += bool(outcomes & _GIVEN) and "OUTCOME_ACCEPTED" not in outcomes and tier != [*tiers][-1]
    answered = [line for line in runs if id(line) in counting and not line.get("status_code")]
    names = {*asked, *(line["tier"] for line in answered if line.get("tier"))}
    dearest = max(names, key=lambda name: (cost[name] / max(asked[name], 1), name), default="")
    top = order[-1] if order else dearest if not left[dearest] else ""
    for tier in names:
        mine = [line for line in answered if line.get("tier") == tier]
        models = [line for line in mine if _cache(line) not in {"KIND_EXACT_HIT", "KIND_SEMANTIC_HIT"}]
        counts = {"asked": asked[tier], "answered": len(mine), "cost_usd": cost[tier] * 1e-9}
        out.update({("tier", tier, measure): _plain(value) for measure, value in counts.items()})
        shares = {
            "escalated": (left[tier], 0 if tier == top else gave[tier]),
            "fallback": (unavailable[tier], asked[tier]),
            "schema_failed": (wrong[tier], checked[tier]),
            "accepted": (sum(bool(line.get("accepted")) for line in models), len(models)),
        }
        out.update({("tier", tier, measure): _share(*value) for measure, value in shares.items() if value[1]})


def _hops(out: dict[Key, Figure], runs: Sequence[Line]) -> None:
    by_hop: dict[str, list[float]] = defaultdict(list)
    for line in runs:
        for hop in line.get("hops", ()):
            by_hop[hop["hop"]].append(_seconds(hop.get("latency", "0s")))
    for hop, seconds in by_hop.items():
        out["hop", hop, "count"] = _plain(len(seconds))
        _latency(out, "hop", hop, seconds)


def _judgements(out: dict[Key, Figure], lines: Sequence[Line]) -> None:
    for step, count in Counter(line.get("routing", {}).get("policy_step") or "(none)" for line in lines).items():
        out["policy step", step, "count"] = _plain(count)
    judged = [_judged(line) for line in lines if _judged(line)]
    bins = Counter(min(int(each.get("confidence", 0.0) * 10), 9) for each in judged)
    out.update({("confidence bin", str(at), "count"): _plain(bins[at]) for at in range(10)})
    middle = len(judged) // 2
    if middle >= DRIFT_LEAST:
        for name, label in (("task type", "task_type"), ("complexity", "complexity")):
            older, newer = (Counter(each.get(label) for each in half) for half in (judged[:middle], judged[middle:]))
            out["drift", name, "psi"] = _plain(_stability(older, newer))


def _stability(older: Counter[Any], newer: Counter[Any]) -> float:
    total = 0.0
    for label in older | newer:
        p, q = (max(half[label] / half.total(), 1e-4) for half in (older, newer))
        total += (q - p) * math.log(q / p)
    return total


def _latency(out: dict[Key, Figure], section: str, name: str, seconds: list[float]) -> None:
    seconds.sort()
    for share in (50, 95, 99) if seconds else ():
        out[section, name, f"p{share}_s"] = _plain(seconds[-(-share * len(seconds) // 100) - 1])


def _share(count: int, of: int) -> Figure:
    """With the interval of E. B. Wilson (1927), as the roots of (p - x)^2 = z^2 x (1 - x) / n."""
    p, k = count / of, Z * Z / of
    root = math.sqrt(k * k + 4 * k * p * (1 - p))
    low, high = ((2 * p + k - root) / (2 * (1 + k)), (2 * p + k + root) / (2 * (1 + k)))
    return p, max(0.0, low), min(1.0, high)


def _plain(value: float) -> Figure:
    return float(value), None, None


def _attempts(line: Line) -> list[Line]:
    found: list[Line] = line.get("attempts", [])
    return found


def _cost(attempt: Line) -> int:
    """What was counted of it, or is estimated."""
    return int(attempt.get("cost_nanousd", 0)) - int(attempt.get("cost_excess_nanousd", 0))


def _excess(line: Line) -> int:
    """How much more its calls can have cost, of those that nobody counted."""
    booked = int(line.get("cost", {}).get("cost_nanousd", 0))
    return min(sum(int(each.get("cost_excess_nanousd", 0)) for each in _attempts(line)), booked)


def _cache(line: Line) -> str:
    return str(line.get("cache", {}).get("kind", ""))


def _judged(line: Line) -> Line:
    found: Line = line.get("routing", {}).get("classification") or {}
    return found


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def _received(line: Line) -> datetime:
    text = line["received_at"]
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")


def _seconds(duration: str) -> float:
    """Of whole microseconds, as the ledger keeps them."""
    return int(float(duration.removesuffix("s")) * 1e6 + 1e-3) / 1e6


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-6 if max(abs(a), abs(b)) < 1e-3 else TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
