"""A report as one HTML page that needs nothing else: tables, and plots as SVG inside it.

Promises: no script, no request to anywhere, nothing of a name (a tenant, an endpoint) is taken for markup; plots are
readable in the light and in the dark, each with its figures beside it in a table.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from services.ledger.report.figures import Report
from services.ledger.report.names import visible
from services.ledger.report.tallies import CONFIDENCE_BINS, Group
from services.ledger.report.view import bound_note, hit_share, quality_cells, span, state_of_escalation, tries
from spillway.cli.terminal import ms, percent, usd

__all__ = ["page"]

_NANO: Final = 1e-9
_ROUTED, _FLAGSHIP, _GOOD, _BAD = "#2f6fb0", "#b3b8bf", "#3a8f5c", "#c0563f"
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem; }
.key { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.2rem 0; }
.key div { border: 1px solid #8884; border-radius: 8px; padding: .6rem 1rem; min-width: 9rem; }
.key b { display: block; font-size: 1.45rem; } .key span, .note { color: #777; font-size: .85rem; }
.wide, figure { overflow-x: auto; --edge: Canvas; background:
 linear-gradient(to right, var(--edge) 30%, #0000) 0 0 / 2.5rem 100% no-repeat local,
 linear-gradient(to left, var(--edge) 30%, #0000) 100% 0 / 2.5rem 100% no-repeat local,
 linear-gradient(to right, #888a, #0000) 0 0 / .8rem 100% no-repeat,
 linear-gradient(to left, #888a, #0000) 100% 0 / .8rem 100% no-repeat; } /* a shadow at an edge with more behind it */
table { border-collapse: collapse; font-size: .88rem; width: 100%; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #8883; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
th { font-weight: 600; } .alarm { color: #c0392b; } .watch { color: #b7791f; } .healthy { color: #2e7d4f; }
figure { margin: .6rem 0; --edge: #fff; background-color: #fff; border-radius: 8px; padding: .4rem; }
svg { width: 100%; height: auto; }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .6rem; } .key { gap: .5rem; }
 .key div { flex: 1 1 8rem; }
 figure svg { width: 42rem; } }
"""


def page(report: Report, title: str) -> str:
    """The page. `title` says which time and which tenant."""
    body = [f"<h1>Spillway: cost and quality</h1><p class=note>{_text(title)}</p>"]
    if report.all is None:
        body.append("<p>No requests.</p>")
    else:
        body += _sections(report, report.all)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
    head = f"<head>{head}<style>{_STYLE}</style></head>"
    return f"<!doctype html><html lang=en>{head}<body>{''.join(body)}</body></html>\n"


def _sections(report: Report, whole: Group) -> Iterable[str]:
    yield _key(report, whole)
    if len(report.days) > 1:
        yield "<h2>Cost a day</h2>" + _days_plot(report.days)
    yield (
        "<h2>Tiers</h2>" + _tiers_plot(report) + "<p class=note>Escalated, fallback and schema failed in %, with 95 % "
        "intervals.</p>" + _tier_table(report)
    )
    yield (
        "<h2>Quality, by the tier that answered</h2>"
        + _quality_plot(report)
        + "<p class=note>In %, with 95 % intervals.</p>"
        + _quality_table(report)
    )
    for kind in ("arm", "task type", "user tier", "tenant", "endpoint", "tag", "day"):
        groups = report.days if kind == "day" else report.of_kind(kind)
        if len(groups) > 1 or (groups and kind == "arm"):
            yield f"<h2>By {kind}</h2>" + _group_table(kind, groups)
    yield "<h2>Latency of each hop</h2>" + _hop_table(report)
    yield "<h2>Judgement</h2>" + _confidence_plot(report) + _judgement(report)


def _key(report: Report, whole: Group) -> str:
    flagship = ", ".join(report.flagship_targets) or "unknown"
    cards = (
        (percent(whole.savings), f"saved against {flagship} for everything"),
        (usd(whole.cost_nanousd), f"cost, instead of {usd(whole.flagship_cost_nanousd)}"),
        (f"{whole.requests:,}", f"requests, {whole.failed:,} failed{tries(whole)}"),
        (hit_share(whole), "answered from the cache"),
        (span(whole.escalated), f"% escalated: {state_of_escalation('', whole.escalated) or 'nothing asked'}"),
        (usd(report.gates_cost_nanousd), "of the cost is gates and judges"),
        (usd(report.canary_cost_nanousd), f"canary beside it, {report.canary_grades:,} grades"),
        (usd(report.audits_cost_nanousd), "audits of cached answers beside it"),
    )
    bounded = bound_note(report, whole)
    unknown = f"<p class=note>Of {report.cost_unknown:,} requests that were broken off the cost is not known.</p>"
    return (
        "<div class=key>"
        + "".join(f"<div><b>{_text(value)}</b><span>{_text(what)}</span></div>" for value, what in cards)
        + "</div>"
        + (f"<p class=note>{_text(bounded[0].upper() + bounded[1:])}.</p>" if bounded else "")
        + (unknown if report.cost_unknown else "")
    )


def _tier_table(report: Report) -> str:
    rows: list[list[str | tuple[str, str]]] = []
    for tier in report.tiers:
        state = state_of_escalation(tier.tier, tier.escalated)
        rows.append(
            [
                tier.tier or "–",
                f"{tier.asked:,}",
                f"{tier.answered:,}",
                usd(tier.cost_nanousd),
                usd(round(tier.cost_nanousd / tier.asked)) if tier.asked else "–",
                (span(tier.escalated), state),
                (state or "–", state),
                span(tier.fallback),
                span(tier.schema_failed),
            ]
        )
    names = ("tier", "asked", "answered", "cost", "per asked", "escalated", "", "fallback", "schema failed")
    return _table(names, rows)


def _quality_table(report: Report) -> str:
    names = ("tier", "accepted", "grade", "grade − flagship's", "grades", "disliked", "regenerated", "complaints")
    return _table(names, [[tier.tier or "–", *quality_cells(tier)] for tier in report.tiers])


def _group_table(kind: str, groups: Sequence[Group]) -> str:
    rows = [
        [
            group.name,
            f"{group.requests:,}",
            f"{group.failed:,}",
            usd(group.cost_nanousd),
            usd(group.flagship_cost_nanousd),
            percent(group.savings),
            hit_share(group),
            span(group.escalated),
            ms(group.latency.p50_s) if group.latency else "–",
            ms(group.latency.p95_s) if group.latency else "–",
        ]
        for group in groups
    ]
    return _table((kind, "requests", "failed", "cost", "flagship", "saved", "hits", "escalated", "p50", "p95"), rows)


def _hop_table(report: Report) -> str:
    rows = [
        [hop, f"{each.count:,}", ms(each.p50_s), ms(each.p95_s), ms(each.p99_s)] for hop, each in report.hops.items()
    ]
    return _table(("hop", "n", "p50", "p95", "p99"), rows)


def _judgement(report: Report) -> str:
    lines = [
        ("decided by", ", ".join(f"{name} {count:,}" for name, count in report.policy_steps.items())),
        ("drift between the halves (PSI)", ", ".join(f"{name} {index:.3f}" for name, index in report.drift.items())),
        ("feedback", ", ".join(f"{kind} {count:,}" for kind, count in report.feedback.items())),
    ]
    return "".join(f"<p>{_text(name)}: {_text(text)}</p>" for name, text in lines if text)


def _text(text: str) -> str:
    return escape(visible(text))


def _table(names: Sequence[str], rows: Iterable[Iterable[str | tuple[str, str]]]) -> str:
    """A cell is a text, or a text and a class."""
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(cell: str | tuple[str, str]) -> str:
    text, name = cell if isinstance(cell, tuple) else (cell, "")
    return f'<td class="{name}">{_text(text)}</td>' if name else f"<td>{_text(text)}</td>"


def _days_plot(days: Sequence[Group]) -> str:
    figure, axes = _plot()
    places = range(len(days))
    axes.bar([at - 0.2 for at in places], [day.flagship_cost_nanousd * _NANO for day in days], 0.4, color=_FLAGSHIP)
    axes.bar([at + 0.2 for at in places], [day.cost_nanousd * _NANO for day in days], 0.4, color=_ROUTED)
    axes.set_xticks(list(places), [day.name[5:] for day in days])
    axes.set_ylabel("US dollars")
    axes.legend(["flagship for everything", "routed"], frameon=False)
    return _svg(figure, "Cost of each day, routed and with the flagship for everything")


def _tiers_plot(report: Report) -> str:
    figure, axes = _plot(2.2)
    places = range(len(report.tiers))
    axes.barh(places, [tier.answered for tier in report.tiers], color=_ROUTED)
    axes.set_yticks(places, [visible(tier.tier) for tier in report.tiers], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("requests answered")
    return _svg(figure, "Requests that each tier answered")


def _quality_plot(report: Report) -> str:
    graded = [(tier.tier, tier.grade_difference) for tier in report.tiers if tier.grades > 1]
    if not graded:
        return ""
    figure, axes = _plot(0.8 + 0.45 * len(graded))
    for at, (_, found) in enumerate(graded):
        if found is not None:
            axes.plot([found.low, found.high], [at, at], color=_ROUTED, linewidth=2)
            axes.plot([found.value], [at], "o", color=_ROUTED)
    axes.axvline(0, color=_GOOD, linewidth=1)
    axes.axvline(-0.03, color=_BAD, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(graded)), [visible(name) for name, _ in graded], parse_math=False)
    axes.set_ylim(len(graded) - 0.5, -0.5)
    axes.set_xlabel("grade minus the flagship's, 95 % interval (dashed: a drop of 3 %)")
    return _svg(figure, "Grades of each tier's answers beside the flagship's")


def _confidence_plot(report: Report) -> str:
    if not any(report.confidence_counts):
        return ""
    figure, axes = _plot(2.2)
    width = 1 / CONFIDENCE_BINS
    axes.bar([(i + 0.5) * width for i in range(CONFIDENCE_BINS)], report.confidence_counts, width * 0.9, color=_ROUTED)
    axes.set_xlim(0, 1)
    axes.set_xlabel("confidence of the judgement")
    axes.set_ylabel("requests")
    return _svg(figure, "How sure the classifier was")


def _plot(height: float = 2.8) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes half a second, and only this page needs it

    figure = Figure(figsize=(8.6, height), layout="constrained", facecolor="none")  # the page's edges show through
    axes = figure.add_subplot(facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any, description: str) -> str:
    """The plot as an element of the page. Dates and random ids are left out, so that equal figures give equal pages."""
    import matplotlib as mpl  # noqa: PLC0415

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": description, "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    element = text.getvalue()[text.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    label = escape(description, quote=True)
    return f'<figure role=img aria-label="{label}">{element}</figure>'
