"""A trace as a tree in the terminal, with a bar for when each span ran. Promises: pure; never wider than asked."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from spillway.cli.terminal import ms, usd
from spillway.cli.trace import Span, Trace

__all__ = ["trace_view"]

SERVICE_COLUMNS = 13
DURATION_COLUMNS = 9
BAR_COLUMNS = 24
DEPTH_MAX = 24


def trace_view(trace: Trace, columns: int) -> Text:
    """The tree, one line for each span and one for what it found."""
    spans = trace.spans
    start_s = min(span.start_s for span in spans)
    length_s = max(span.start_s + span.duration_s for span in spans) - start_s
    view = _View(trace, columns, start_s, max(length_s, 1e-6))
    title = Text(f"trace {trace.trace_id}", style="bold")
    title.append(f" · {len(spans)} spans · {ms(length_s)}\n", style="dim")
    view.text.append_text(title)
    for root in trace.roots:
        view.add(root, "", "", 0)
    view.text.rstrip()
    return view.text


class _View:
    def __init__(self, trace: Trace, columns: int, start_s: float, length_s: float) -> None:
        self.text = Text(no_wrap=True, overflow="crop")
        self._trace = trace
        self._columns = columns
        self._start_s = start_s
        self._length_s = length_s

    def add(self, span: Span, head: str, below: str, depth: int) -> None:
        name_columns = max(12, self._columns - SERVICE_COLUMNS - DURATION_COLUMNS - BAR_COLUMNS - 4)
        label = _clip(head + _name(span), name_columns)
        style = "red" if span.error else "bold cyan" if span.is_attempt else ""
        self.text.append(label[: len(head)], style="dim")
        self.text.append(set_cell_size(label[len(head) :], max(0, name_columns - cell_len(head))), style=style)
        service = _clip(span.service.removeprefix("spillway-"), SERVICE_COLUMNS)
        self.text.append(f" {set_cell_size(service, SERVICE_COLUMNS)}", style="dim")
        self.text.append(f"{ms(span.duration_s):>{DURATION_COLUMNS}} ")
        self.text.append(self._bar(span), style="red" if span.error else "cyan" if span.is_attempt else "blue")
        self.text.append("\n")
        children = self._trace.children(span) if depth < DEPTH_MAX else ()
        found = _found(span)
        if found:
            guide = below + ("│  " if children else "   ")
            self.text.append(guide, style="dim")
            self.text.append(_clip(found, self._columns - cell_len(guide)) + "\n", style="dim italic")
        for number, child in enumerate(children):
            last = number == len(children) - 1
            self.add(child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), depth + 1)

    def _bar(self, span: Span) -> str:
        scale = BAR_COLUMNS / self._length_s
        left = min(BAR_COLUMNS - 1, int((span.start_s - self._start_s) * scale))
        width = max(1, min(BAR_COLUMNS - left, round(span.duration_s * scale)))
        return " " * left + "━" * width


def _name(span: Span) -> str:
    name = span.name.removeprefix("/").removeprefix("spillway.v1.")
    return f"{name} →" if span.kind == "client" and not span.is_attempt else name


def _found(span: Span) -> str:
    """What the span's own attributes say, in a few words."""
    tags = span.tags
    if span.is_attempt:
        return " · ".join(filter(None, (_attempt(span), _gates(span))))
    if span.kind != "server":
        return ""
    if "spillway.classifier.complexity" in tags:
        words = [str(tags.get(f"spillway.classifier.{key}", "")) for key in ("task_type", "complexity")]
        confidence = tags.get("spillway.classifier.confidence", 0.0)
        layer = tags.get("spillway.classifier.layer", "")
        return f"{', '.join(words)} · confidence {float(confidence):.2f} · by {layer}"
    if "spillway.cache.outcome" in tags and span.parent_id:
        reason = tags.get("spillway.cache.reason", "")
        return " · ".join(str(part) for part in (tags["spillway.cache.outcome"], reason) if part)
    return ""


def _attempt(span: Span) -> str:
    tags = span.tags
    parts = [str(tags[key]) for key in ("spillway.tier", "spillway.attempt.outcome") if key in tags]
    if "gen_ai.usage.input_tokens" in tags:
        read, written = tags["gen_ai.usage.input_tokens"], tags.get("gen_ai.usage.output_tokens", 0)
        parts.append(f"{int(read)}+{int(written)} tokens")
    if "spillway.cost_nanousd" in tags:
        parts.append(usd(int(tags["spillway.cost_nanousd"])))
    return " · ".join(parts)


def _gates(span: Span) -> str:
    """The verdicts, failures first; not the hard-failure gate's when it passed, as every complete answer does."""
    prefix, suffix = "spillway.gate.", ".verdict"
    passed, failed = [], []
    for key, verdict in span.tags.items():
        if key.startswith(prefix) and key.endswith(suffix):
            reason = span.tags.get(key.removesuffix(suffix) + ".reason", "")
            why = f" ({reason})" if reason and verdict != "pass" else ""
            gate = key.removeprefix(prefix).removesuffix(suffix)
            if verdict != "pass":
                failed.append(f"{gate} {verdict}{why}")
            elif gate != "hard_failure":
                passed.append(f"{gate} {verdict}")
    return ", ".join(failed + passed)


def _clip(text: str, columns: int) -> str:
    return text if cell_len(text) <= columns else set_cell_size(text, max(1, columns - 1)) + "…"
