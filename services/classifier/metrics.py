"""What the classifier counts.

Promises: labels come from bounded sets (layers, complexities, task types, outcomes, configured tiers) and the versions
of heads, of which a process sees one more with each head that its operator puts to use. Gauges are read by the
exporter's thread, so only single numbers that may be read there. Without a meter provider every count costs next to
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.classifier.complexity import Judgement
from services.classifier.small_llm_layer import Asking
from spillway.routing import TierOutcome

__all__ = ["ClassifierMetrics"]

# From a heuristic's fraction of a millisecond to a small LLM's seconds.
_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_TENTHS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class ClassifierMetrics:
    """The instruments of one process, made once. `queued`: texts that wait to be embedded; `remembered`: clusters with
    outcomes.
    """

    def __init__(
        self, meter: Meter, tiers: Iterable[str], *, queued: Callable[[], int], remembered: Callable[[], int]
    ) -> None:
        self._tiers = frozenset(tiers)
        self._judged = meter.create_counter(
            "spillway.classifier.classifications", unit="{classification}", description="Prompts judged."
        )
        self._latency = meter.create_histogram(
            "spillway.classifier.layer.duration",
            unit="s",
            description="How long each layer took, waiting included.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._confidence = meter.create_histogram(
            "spillway.classifier.confidence",
            description="Probability of the complexity that was named.",
            explicit_bucket_boundaries_advisory=_TENTHS,
        )
        self._out_of_domain = meter.create_histogram(
            "spillway.classifier.out_of_domain",
            description="Distance to what the head was trained on, 0 to 1.",
            explicit_bucket_boundaries_advisory=_TENTHS,
        )
        self._outcomes = meter.create_counter(
            "spillway.classifier.outcomes", unit="{outcome}", description="What others told of answers."
        )
        self._left_out = meter.create_counter(
            "spillway.classifier.outcomes.left_out",
            unit="{outcome}",
            description="Of those, the ones of clusters or tiers that are not known here.",
        )
        self._asked = meter.create_counter(
            "spillway.classifier.small_llm.asked", unit="{prompt}", description="What became of the question."
        )
        self._cost = meter.create_counter(
            "spillway.classifier.small_llm.cost", unit="{nanousd}", description="Spent on the small LLM."
        )
        self._left_out.add(0)
        self._cost.add(0)
        for asking in Asking:
            self._asked.add(0, {"outcome": asking.value})
        meter.create_observable_gauge(
            "spillway.classifier.embedding.queue",
            [_reading(queued)],
            unit="{text}",
            description="Texts that wait to be embedded.",
        )
        meter.create_observable_gauge(
            "spillway.classifier.memory.clusters",
            [_reading(remembered)],
            unit="{cluster}",
            description="Clusters of prompts with outcomes.",
        )

    def follow(self, tiers: Iterable[str]) -> None:
        """These are the configured tiers from now on."""
        self._tiers = frozenset(tiers)

    def judged(self, judgement: Judgement) -> None:
        """Counts one judgement."""
        found = judgement.classification
        version = {"version": found.version}
        self._judged.add(
            1,
            {
                **version,
                "layer": found.layer.value,
                "complexity": found.complexity.value,
                "task_type": found.task_type.value,
            },
        )
        self._confidence.record(found.confidence, {**version, "layer": found.layer.value})
        if found.out_of_domain is not None:
            self._out_of_domain.record(found.out_of_domain, version)
        times = judgement.times
        for layer, took_s in (
            ("heuristics", times.heuristics_s),
            ("embedding", times.embedding_s),
            ("small_llm", times.small_llm_s),
        ):
            if took_s is not None:
                self._latency.record(took_s, {"layer": layer})
        if judgement.asked is not None:
            self._asked.add(1, {"outcome": judgement.asked.asking.value})
            self._cost.add(judgement.asked.cost_nanousd)

    def recorded(self, outcomes: Sequence[TierOutcome], counted: int) -> None:
        """Counts outcomes that others told, of which the memory took in `counted`."""
        for outcome in outcomes:
            tier = outcome.tier if outcome.tier in self._tiers else "other"
            labels = {"tier": tier, "source": outcome.source.value, "sufficed": outcome.sufficed}
            self._outcomes.add(1, labels)
        if left_out := len(outcomes) - counted:
            self._left_out.add(left_out)


def _reading(value: Callable[[], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value())]

    return observe
