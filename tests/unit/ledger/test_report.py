"""A report's figures from rows that are written out, its page, its files, and the advice on a rollout."""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import pytest
from pyarrow import parquet
from rich.console import Console

from services.ledger.report.export import Measure, export, measures
from services.ledger.report.figures import Report, TierFigures, make_report
from services.ledger.report.page import page
from services.ledger.report.source import Asked, Decided, Graded, Remark
from services.ledger.report.tallies import DRIFT_LEAST, GROUPS_MAX, NAMES_MAX, OTHERS, Cohorts, Group, stability_index
from services.ledger.report.view import report_view, span, state_of_escalation
from spillway.intervals import Interval, wilson
from spillway.routing import TaskType

DAY_US = 86_400_000_000
PLAIN = Decided(
    tenant="acme",
    received_at_us=20_000 * DAY_US,
    user_tier="free",
    endpoint="chat",
    tags=(),
    task_type="math",
    complexity="simple",
    confidence=0.9,
    arm="",
    policy_step="complexity",
    cache_kind="miss",
    shared=False,
    tier="simple",
    target="small-1",
    accepted=True,
    status_code=0,
    cost_unknown=False,
    cost_nanousd=100,
    flagship_cost_nanousd=1_000,
    flagship_target="flagship-1",
    escalations=0,
    fallbacks=0,
    latency_us=50_000,
)
ANSWER = Asked(1, "simple", "small-1", "answer", "accepted", 100, 40_000)
GRADE = Graded("canary", "simple", "small-1", "math", "", 0.8, 0.9, 500)


@dataclass
class ListedRows:
    decisions: list[Decided] = field(default_factory=list)
    attempts: list[Asked] = field(default_factory=list)
    forms: list[tuple[str, str]] = field(default_factory=list)
    times: list[tuple[str, int]] = field(default_factory=list)
    said: list[Remark] = field(default_factory=list)
    grades: list[Graded] = field(default_factory=list)
    ungraded: list[tuple[str, str, int]] = field(default_factory=list)

    def decided(self) -> Iterable[Decided]:
        return self.decisions

    def asked(self) -> Iterable[Asked]:
        return self.attempts

    def schema_verdicts(self) -> Iterable[tuple[str, str]]:
        return self.forms

    def hops(self) -> Iterable[tuple[str, int]]:
        return self.times

    def remarks(self) -> Iterable[Remark]:
        return self.said

    def graded(self) -> Iterable[Graded]:
        return self.grades

    def ungraded_costs(self) -> Iterable[tuple[str, str, int]]:
        return self.ungraded


def whole(*decisions: Decided) -> Group:
    found = make_report(ListedRows(list(decisions))).all
    assert found is not None
    return found


def shown(report: Report, *, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=terminal, highlight=False)
    console.print(report_view(report, "title"))
    return cast("io.StringIO", console.file).getvalue()


def tier_of(rows: ListedRows, name: str = "simple") -> TierFigures:
    return next(tier for tier in make_report(rows).tiers if tier.tier == name)


def test_a_failed_request_costs_and_saves_nothing() -> None:
    failed = replace(PLAIN, status_code=14, flagship_cost_nanousd=0, cost_nanousd=300, tier="", target="")
    found = whole(PLAIN, failed)
    assert (found.requests, found.failed) == (2, 1)
    assert (found.cost_nanousd, found.flagship_cost_nanousd) == (400, 1_000)
    assert found.savings == pytest.approx(0.6)


def test_what_only_a_bound_has_in_it_is_no_cost_and_lowers_no_saving_but_is_said() -> None:
    lost = replace(ANSWER, outcome="timeout", cost_excess_nanousd=65_000_000)
    report = make_report(ListedRows([replace(PLAIN, cost_excess_nanousd=65_000_000), PLAIN], [lost, ANSWER]))
    assert report.all is not None
    assert (report.all.cost_nanousd, report.all.cost_excess_nanousd, report.calls_bounded) == (200, 65_000_000, 1)
    assert report.all.savings == pytest.approx(0.9)
    assert {each.measure for each in measures(report) if each.value == pytest.approx(0.065)} == {"cost_excess_usd"}
    for text in (shown(report), page(report, "title")):
        assert "t most $0.0650 more, for 1 call that nobody counted" in " ".join(text.split())
    assert "nobody counted" not in shown(make_report(ListedRows([PLAIN], [ANSWER])))


def test_what_is_wider_than_a_phone_scrolls_and_shows_that_it_does() -> None:
    shown_page = page(make_report(ListedRows([PLAIN], [ANSWER])), "title")
    assert "figure { overflow-x: auto" in shown_page
    assert "no-repeat local" in shown_page
    assert "figure svg { width: 42rem; }" in shown_page


def test_the_terminal_and_the_page_call_a_figure_by_one_name() -> None:
    report = make_report(ListedRows([PLAIN], [ANSWER], forms=[("simple", "fail")]))
    for text in (shown(report), page(report, "title")):
        assert "schema failed" in text


def test_comparisons_without_a_grade_and_audits_cost_and_are_no_grades() -> None:
    ungraded = [("canary", "judge_failed", 40), ("canary", "cut_off", 5), ("audit", "right", 7)]
    report = make_report(ListedRows([PLAIN], grades=[GRADE], ungraded=ungraded))
    assert (report.canary_cost_nanousd, report.audits_cost_nanousd, report.canary_grades) == (545, 7, 1)


def test_hits_are_no_evidence_of_gates_or_escalation() -> None:
    hits = [replace(PLAIN, cache_kind="exact_hit", cost_nanousd=0), replace(PLAIN, cache_kind="semantic_hit")]
    shared = replace(PLAIN, cache_kind="exact_hit", shared=True)
    escalated = replace(PLAIN, escalations=1, accepted=False)
    found = whole(*hits, shared, escalated, PLAIN)
    assert (found.exact_hits, found.semantic_hits, found.shared) == (1, 1, 1)
    assert found.escalated == wilson(1, 2)
    assert found.accepted == wilson(1, 2)


def test_a_tier_is_escalated_from_when_none_of_its_answers_was_accepted_and_another_tier_was_asked() -> None:
    rejected, above = replace(ANSWER, outcome="rejected"), replace(ANSWER, tier="complex")
    attempts = [
        replace(ANSWER, decision_id=1),
        *(replace(rejected, decision_id=2), replace(above, decision_id=2)),
        replace(ANSWER, decision_id=2, purpose="judge", outcome="evidence", cost_nanousd=7),
        *(replace(rejected, decision_id=3), replace(ANSWER, decision_id=3, purpose="hedge")),
        *(replace(ANSWER, decision_id=4, outcome="timeout"), replace(ANSWER, decision_id=4)),
        replace(rejected, decision_id=5),  # DIRECT: nothing could be asked but this
        *(replace(ANSWER, decision_id=6, outcome="error"), replace(above, decision_id=6)),  # fallback
        *(replace(ANSWER, decision_id=7, outcome="skipped"), replace(above, decision_id=7)),
    ]
    rows = ListedRows([PLAIN] * 7, attempts)
    found = tier_of(rows)
    assert found.asked == 6
    assert found.escalated == wilson(1, 5)
    assert found.fallback == wilson(2, 6)
    assert found.cost_nanousd == 9 * 100 + 7
    assert make_report(rows).gates_cost_nanousd == 7


def test_of_the_last_tier_there_is_no_share_of_escalations() -> None:
    attempts = [replace(ANSWER, decision_id=i, tier="complex", outcome="rejected") for i in range(40)]
    for order in ((), ("simple", "complex")):
        report = make_report(ListedRows([replace(PLAIN, tier="complex")], attempts), order)
        assert [(tier.tier, tier.escalated) for tier in report.tiers] == [("complex", None)]
    assert "–" in shown(report)


def test_of_a_tier_people_and_judges_are_heard() -> None:
    said = [
        Remark("thumbs_down", 1, "simple", "math", ""),
        Remark("complaint", 1, "simple", "math", ""),
        Remark("regenerated", 2, "simple", "math", ""),
        Remark("thumbs_up", 3, "simple", "math", ""),
        Remark("complaint", 4, "complex", "math", ""),
    ]
    grades = [GRADE, replace(GRADE, score=0.6), replace(GRADE, tier="complex")]
    forms = [("simple", "fail"), ("simple", "pass"), ("simple", "pass")]
    found = tier_of(ListedRows([PLAIN] * 10, [ANSWER], forms, said=said, grades=grades))
    assert found.disliked == wilson(2, 10)  # one of them said so twice
    assert found.complained == wilson(1, 10)
    assert found.regenerated == wilson(1, 10)
    assert found.schema_failed == wilson(1, 3)
    assert found.grades == 2
    assert found.grade is not None
    assert found.grade.value == pytest.approx(0.7)
    assert found.grade_difference is not None
    assert found.grade_difference.value == pytest.approx(-0.2)
    report = make_report(ListedRows([PLAIN], grades=grades))
    assert report.canary_cost_nanousd == 1_500


def test_tiers_come_in_the_order_of_the_ladder_and_unknown_ones_by_what_they_cost() -> None:
    attempts = [
        replace(ANSWER, decision_id=1, tier="b"),
        replace(ANSWER, decision_id=2, tier="dear", cost_nanousd=900),
        replace(ANSWER, decision_id=3, tier="cheap", cost_nanousd=1),
        replace(ANSWER, decision_id=4, tier="a"),
    ]
    report = make_report(ListedRows([PLAIN], attempts), ["a", "b"])
    assert [tier.tier for tier in report.tiers] == ["a", "b", "simple", "cheap", "dear"]


def test_many_tenants_are_put_together_and_none_is_lost() -> None:
    decisions = [replace(PLAIN, tenant=f"t{i}") for i in range(GROUPS_MAX + 5)] + [replace(PLAIN, tenant="t1")]
    tenants = make_report(ListedRows(decisions)).of_kind("tenant")
    assert tenants[0].name == "t1"
    assert (len(tenants), tenants[-1].name, tenants[-1].requests) == (GROUPS_MAX + 1, OTHERS, 5)
    assert sum(tenant.requests for tenant in tenants) == len(decisions)
    assert tenants[-1].latency is not None
    assert tenants[-1].latency.count == 5


def test_any_number_of_tags_is_counted_in_little_memory_and_the_frequent_ones_exactly() -> None:
    decided = [replace(PLAIN, tags=("often", f"once-{i}")) for i in range(3 * NAMES_MAX)]
    tags = make_report(ListedRows(decided)).of_kind("tag")
    assert (tags[0].name, tags[0].requests) == ("often", 3 * NAMES_MAX)
    assert len(tags) == GROUPS_MAX + 1
    assert sum(tag.requests for tag in tags) == 6 * NAMES_MAX
    cohorts = Cohorts()
    for row in decided:
        cohorts.add(row)
        assert len(cohorts.by["tag"]) <= NAMES_MAX


def test_a_request_that_was_answered_in_the_end_did_not_fail() -> None:
    tried = replace(
        PLAIN, status_code=14, tried_again=True, flagship_cost_nanousd=0, tier="", latency_us=9, tags=("x",)
    )
    found = whole(tried, tried, tried, PLAIN)
    assert (found.requests, found.failed, found.failed_tries) == (1, 0, 3)
    assert (found.cost_nanousd, found.flagship_cost_nanousd) == (400, 1_000)
    assert found.latency is not None
    assert found.latency.p50_s == 0.05
    assert "3 more tries failed" in shown(make_report(ListedRows([tried, tried, tried, PLAIN])))
    alone = make_report(ListedRows([tried]))
    assert alone.all is None or alone.all.requests == 0
    assert page(alone, "title")
    assert shown(alone)


def test_latencies_are_nearest_ranks() -> None:
    found = make_report(ListedRows([PLAIN], times=[("cache", us) for us in range(1, 101)])).hops["cache"]
    assert (found.p50_s, found.p95_s, found.p99_s) == (50e-6, 95e-6, 99e-6)


def test_the_same_mix_has_no_drift_and_another_one_has() -> None:
    assert stability_index({"a": 10, "b": 30}, {"a": 1, "b": 3}) == pytest.approx(0)
    assert stability_index({}, {"a": 1}) is None
    # By hand: (0.5 - 0.25) ln 2 + (0.5 - 0.75) ln(2/3).
    expected = 0.25 * math.log(2) - 0.25 * math.log(2 / 3)
    assert stability_index({"a": 1, "b": 3}, {"a": 1, "b": 1}) == pytest.approx(expected)
    same, other = [PLAIN] * DRIFT_LEAST, [replace(PLAIN, task_type="code")] * DRIFT_LEAST
    assert make_report(ListedRows(same + same)).drift["task type"] == pytest.approx(0)
    assert make_report(ListedRows(same + other)).drift["task type"] > 0.25
    assert make_report(ListedRows(same + other)).drift["complexity"] == pytest.approx(0)


def test_of_too_few_requests_no_drift_is_told() -> None:
    dice = random.Random(2)
    decided = [replace(PLAIN, task_type=dice.choice(list(TaskType)).value) for _ in range(2 * DRIFT_LEAST - 1)]
    assert make_report(ListedRows(decided)).drift == {}
    # With enough of them chance alone stays below what is another population.
    assert make_report(ListedRows([*decided, PLAIN])).drift["task type"] < 0.1


@pytest.mark.parametrize(
    ("tier", "share", "state"),
    [
        ("medium", 0.15, "healthy"),
        ("medium", 0.16, "watch"),
        ("medium", 0.30, "alarm"),
        ("simple", 0.05, "healthy"),
        ("simple", 0.01, "watch"),
        ("simple", 0.11, "watch"),
        ("simple", 0.31, "alarm"),
    ],
)
def test_the_bands_of_escalation(tier: str, share: float, state: str) -> None:
    assert state_of_escalation(tier, Interval(share, share, share)) == state


def rich_rows() -> ListedRows:
    return ListedRows(
        [PLAIN, replace(PLAIN, tenant="<b>evil</b>", received_at_us=PLAIN.received_at_us + DAY_US), PLAIN],
        [ANSWER],
        times=[("cache.exact", 900)],
        said=[Remark("thumbs_up", 1, "simple", "math", "")],
        grades=[GRADE, GRADE],
    )


def test_the_page_is_whole_and_takes_no_name_for_markup() -> None:
    html = page(make_report(rich_rows()), "a <title>")
    assert "<b>evil</b>" not in html
    assert "&lt;b&gt;evil&lt;/b&gt;" in html
    assert "<script" not in html
    assert 'src="' not in html
    for svg in html.split("<figure")[1:]:
        element = svg[svg.index("<svg") : svg.index("</svg>") + 6]
        assert ET.fromstring(element).tag.endswith("svg")
    assert html.count("<svg") == 4
    assert html == page(make_report(rich_rows()), "a <title>")
    assert "No requests" in page(make_report(ListedRows()), "empty")


def test_all_three_files_hold_the_same_rows(tmp_path: Path) -> None:
    report = make_report(rich_rows())
    paths = [tmp_path / f"report{ending}" for ending in (".csv", ".json", ".parquet")]
    for path in paths:
        export(report, path)
    rows = [(m.section, m.name, m.measure, m.value, m.low, m.high) for m in measures(report)]

    def row(found: dict[str, str | float | None]) -> tuple[str | float | None, ...]:
        return tuple(found[name] for name in Measure.__slots__)

    with paths[0].open(newline="") as file:
        listed = [
            (r["section"], r["name"], r["measure"], *(float(r[k]) if r[k] else None for k in ("value", "low", "high")))
            for r in csv.DictReader(file)
        ]
    assert listed == rows
    assert [row(each) for each in json.loads(paths[1].read_text())] == rows
    assert [row(each) for each in parquet.read_table(paths[2]).to_pylist()] == rows
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    with pytest.raises(ValueError, match=r"\.csv"):
        export(report, tmp_path / "report.xls")


EVIL = "a\x1b]0;PWNED\x07\x1b[2J\x9b2K\u202e\nb"
FORMULAS = ("=cmd()", "+1", "-1", "@x", " =1")


def test_no_name_commands_the_terminal() -> None:
    named = replace(PLAIN, tenant=EVIL, endpoint=EVIL, tags=(EVIL,), tier=EVIL, policy_step=EVIL, flagship_target=EVIL)
    attempts = [replace(ANSWER, tier=EVIL)]
    report = make_report(ListedRows([named, PLAIN], attempts, times=[(EVIL, 1)]))
    said = shown(report) + shown(report, terminal=True)
    assert "PWNED" in said
    for forbidden in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e"):
        assert forbidden not in said
    html = page(report, EVIL)
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(html)


def test_the_page_draws_names_as_they_are() -> None:
    named = replace(PLAIN, tier="$x_1$ \\frac{")
    html = page(make_report(ListedRows([named], grades=[replace(GRADE, tier=named.tier)] * 2)), "title")
    assert html.count("$x_1$ \\frac{") >= 3


def test_no_name_is_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    report = make_report(ListedRows([replace(PLAIN, tenant=name) for name in (*FORMULAS, EVIL)]))
    export(report, tmp_path / "report.csv")
    text = (tmp_path / "report.csv").read_bytes().decode()
    assert "\x1b" not in text
    with (tmp_path / "report.csv").open(newline="", encoding="utf-8") as file:
        names = {row["name"] for row in csv.DictReader(file)}
    assert {f"'{name}" for name in FORMULAS} <= names
    assert not names & set(FORMULAS)


def test_of_one_grade_nothing_is_said_and_every_number_is_finite(tmp_path: Path) -> None:
    report = make_report(ListedRows([PLAIN], [ANSWER], grades=[GRADE]))
    assert tier_of(ListedRows([PLAIN], grades=[GRADE])).grade is not None
    assert span(tier_of(ListedRows([PLAIN], grades=[GRADE])).grade) == "–"
    numbers = [number for m in measures(report) for number in (m.value, m.low, m.high) if number is not None]
    assert all(math.isfinite(number) for number in numbers)
    for name in ("report.csv", "report.json"):
        export(report, tmp_path / name)
        assert "inf" not in (tmp_path / name).read_text().lower()
