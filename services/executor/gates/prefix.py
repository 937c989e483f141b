"""What can be said of an answer by its beginning: the gates that read the prefix of a stream.

Promises: pure. A prefix is rejected when the whole answer surely would be, with one exception: what begins as a refusal
is taken for one, although it might have gone on to answer after all; the next tier will. The gates that need the whole
answer (agreement, self-confidence, self-evaluation, judge, log-probabilities, schema, composite) say nothing here: once
a stream flows, their verdicts are for the record, and keep the answer out of the cache.
"""

from __future__ import annotations

from services.executor.gates import hard_failure, rules
from services.executor.outcome import Answer
from spillway.chat import Message, Role
from spillway.routing import GateSpec, GateVerdict, RulesSpec, Verdict

__all__ = ["rejection"]


def rejection(text: str, gates: tuple[GateSpec, ...]) -> GateVerdict | None:
    """The verdict that rejects an answer which begins with `text`; None when nothing speaks against it so far."""
    verdicts = [hard_failure.check(Answer(Message.of(Role.ASSISTANT, text)))]
    for spec in gates:
        if isinstance(spec, RulesSpec):
            kept = RulesSpec(chars_max=spec.chars_max, must_not_match=spec.must_not_match)
            verdicts.append(rules.check(text, kept))
    return next((verdict for verdict in verdicts if verdict.verdict is Verdict.FAIL), None)
