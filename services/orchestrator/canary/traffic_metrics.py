"""Label drift, confidence and escalation shares of one process, as instruments (docs/canary.md has the table).

Promises: labels come from bounded sets: kinds of work, complexities, layers, and the configured tiers. `observe` is
cheap and never fails; gauges are computed when they are read, and say nothing while there is too little to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.orchestrator.canary.traffic import (
    OVERALL_TIER,
    LabelWindow,
    ShareWindow,
    band_of,
    drift_state,
    tiers_left,
)
from spillway.routing import Classification, Completion, Complexity, TaskType

__all__ = ["TrafficMetrics"]

_CONFIDENCE_BOUNDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)


class TrafficMetrics:
    """The windows and their instruments, made once. For one event loop; gauges may be read from another thread."""

    def __init__(self, meter: Meter, tiers: Iterable[str]) -> None:
        self._labels = {
            "task_type": LabelWindow(each.value for each in TaskType),
            "complexity": LabelWindow(each.value for each in Complexity),
        }
        self._shares: dict[str, ShareWindow] = {}
        self.reconfigure(tiers)
        self._confidence = meter.create_histogram(
            "spillway.classification.confidence",
            unit="1",
            description="How sure the classifier was.",
            explicit_bucket_boundaries_advisory=_CONFIDENCE_BOUNDS,
        )
        for name, callback, description in (
            ("spillway.label_drift", self._drifts, "Population stability index of the newest labels."),
            ("spillway.label_drift.state", self._drift_states, "0 the same, 1 to be watched, 2 another population."),
            ("spillway.escalation_share", self._escalations, "Of the tier's last answers, those that went higher."),
            ("spillway.escalation_share.state", self._escalation_states, "0 healthy, 1 to be watched, 2 alarm."),
        ):
            meter.create_observable_gauge(name, [callback], unit="1", description=description)

    def reconfigure(self, tiers: Iterable[str]) -> None:
        """The tiers from now on: the windows of those that stay go on, the others' are gone."""
        self._shares = {tier: self._shares.get(tier) or ShareWindow() for tier in (*tiers, OVERALL_TIER)}

    def observe(self, classification: Classification | None, completion: Completion | None) -> None:
        """One request that has ended: how it was judged, and its answer, if any. Cached answers escalate nowhere."""
        if classification is not None:
            self._labels["task_type"].add(classification.task_type.value)
            self._labels["complexity"].add(classification.complexity.value)
            self._confidence.record(classification.confidence, {"layer": classification.layer.value})
        if completion is None or not completion.attempts:
            return
        for tier, escalated in tiers_left(completion.attempts):
            if tier in self._shares:
                self._shares[tier].add(escalated)
        self._shares[OVERALL_TIER].add(completion.escalations > 0)

    def _drifts(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, window in self._labels.items():
            if (value := window.drift()) is not None:
                yield Observation(value, {"label": name})

    def _drift_states(self, _: CallbackOptions) -> Iterable[Observation]:
        for name, window in self._labels.items():
            if (value := window.drift()) is not None:
                yield Observation(drift_state(value).value, {"label": name})

    def _escalations(self, _: CallbackOptions) -> Iterable[Observation]:
        for tier, window in self._shares.items():
            if (share := window.share()) is not None:
                yield Observation(share, {"tier": tier})

    def _escalation_states(self, _: CallbackOptions) -> Iterable[Observation]:
        for tier, window in self._shares.items():
            if (share := window.share()) is not None:
                yield Observation(band_of(tier).state(share).value, {"tier": tier})
