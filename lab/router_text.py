"""The report of an exam as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lab.curves import curves_text, reliability_text
from lab.metrics import Interval
from lab.router_data import PROBLEMS_SHOWN_MAX, RouterRows
from lab.router_exam import Comparison, Exam
from lab.router_report import RouterReport

__all__ = ["comparison_text", "cut_text", "exam_text", "files_text", "with_interval"]

KINDS_SHOWN_MAX = 12
# With more of the prompts cut, figures are of another kind of prompt than the service sees.
CUT_SHARE_MAX = 0.1


def with_interval(found: Interval, places: int = 3) -> str:
    """A figure and its 95 % interval; a dash where there is none."""
    if np.isnan(found.value):
        return "–"
    return f"{found.value:.{places}f} ({found.low:.{places}f} to {found.high:.{places}f})"


def files_text(rows: RouterRows) -> str:
    """What was read, and what was not, and why."""
    lines: list[str] = []
    for facts in rows.files:
        left = (
            (facts.without_prompt, "kept no prompt"),
            (facts.without_outcome, "have no outcome of a gate"),
            (facts.refused, "refused"),
        )
        said = "".join(f", {count} {what}" for count, what in left if count)
        cut = f" ({facts.cut} of them only the head of their prompt)" if facts.cut else ""
        lines.append(f"{facts.name}: {facts.used} of {facts.lines} lines used{cut}{said}")
    refused = sum(facts.refused for facts in rows.files)
    shown = f", the first {PROBLEMS_SHOWN_MAX} of {refused}" if refused > PROBLEMS_SHOWN_MAX else ""
    if refused:
        lines.append(f"refused lines{shown}:")
    shown_lines = [*lines, *(f"  {problem}" for problem in rows.problems), f"{len(rows)} different prompts"]
    return "\n".join(_harmless(line) for line in shown_lines)


def cut_text(rows: RouterRows) -> str:
    """A warning where many prompts are only their heads; empty where few are."""
    used, cut = sum(facts.used for facts in rows.files), sum(facts.cut for facts in rows.files)
    if cut <= CUT_SHARE_MAX * used:
        return ""
    return (
        f"of {cut / used:.0%} of the prompts the log kept only the head. The service judges whole prompts: "
        "these figures are not of what it will say of those. To learn from whole prompts, write lines of "
        '{"prompt", "outcomes"} of your own (docs/training.md)'
    )


def _harmless(line: str) -> str:
    """Names of files and what stood in them may hold characters that a terminal obeys, or that cannot be printed."""
    return "".join(character if character.isprintable() else "?" for character in line)


def exam_text(exam: Exam, tiers: Sequence[str], subject: str) -> str:
    """Tables and curves; `subject` is the judge whose curve, kinds and reliability are shown."""
    parts = []
    for tier in tiers[:-1]:
        found = {judge.name: judge.reports[tier] for judge in exam.judges if tier in judge.reports}
        if not found:
            continue
        mine = found[subject]
        parts.append(
            f"{tier} or {tiers[-1]}: {mine.rows} held-out prompts; accuracy {mine.weak_accuracy:.3f} and "
            f"{mine.strong_accuracy:.3f}" + _assumed(exam, tiers[-1])
        )
        parts.append(_table(found))
        shown = [name for name in found if name != "random"]
        parts.append(curves_text({name: found[name].curve for name in shown}))
        if mine.reliability:
            parts.append(f"{subject}, P({tier} suffices)\n{reliability_text(mine.reliability)}")
        if len(mine.kinds) > 1:
            parts.append(_kinds(mine))
    return "\n\n".join([*parts, *exam.left_out])


def _assumed(exam: Exam, dearest: str) -> str:
    return f"; {dearest} was not asked in {exam.assumed} and is taken to be good" if exam.assumed else ""


def _table(found: dict[str, RouterReport]) -> str:
    lines = [f"{'judge':<24}{'APGR':<26}{'CPT(50 %)':<24}{'CPT(80 %)':<24}ECE"]
    for name, report in found.items():
        columns = (
            with_interval(report.apgr),
            with_interval(report.cpt50, 1),
            with_interval(report.cpt80, 1),
            with_interval(report.ece),
        )
        lines.append(f"{name[:23]:<24}{columns[0]:<26}{columns[1]:<24}{columns[2]:<24}{columns[3]}")
    return "\n".join([*lines, "CPT in percent of prompts sent to the dearest tier; in brackets 95 %, over prompts"])


def _kinds(report: RouterReport) -> str:
    lines = [f"{'kind of work':<32}{'prompts':>8}{'cheap':>8}{'dearest':>9}   {'APGR':<26}ECE"]
    rows = sorted(report.kinds, key=lambda kind: -kind.rows)
    for kind in rows[:KINDS_SHOWN_MAX]:
        ece = "–" if np.isnan(kind.ece) else f"{kind.ece:.3f}"
        lines.append(
            f"{_harmless(kind.kind)[:31]:<32}{kind.rows:>8}{kind.weak_accuracy:>8.3f}{kind.strong_accuracy:>9.3f}   "
            f"{with_interval(kind.apgr):<26}{ece}"
        )
    if len(rows) > KINDS_SHOWN_MAX:
        lines.append(f"and {len(rows) - KINDS_SHOWN_MAX} smaller ones")
    return "\n".join(lines)


def comparison_text(comparisons: Sequence[Comparison], old: str) -> str:
    """How the new head stands against the one in use, on the same prompts."""
    return "\n".join(
        f"against {old} on the same {each.rows} prompts, tier {each.tier}: APGR {_signed(each.apgr)}, "
        f"ECE {_signed(each.ece)}" + (f": worse, {each.worse}" if each.worse else "")
        for each in comparisons
    )


def _signed(found: Interval) -> str:
    if np.isnan(found.value):
        return "–"
    return f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
