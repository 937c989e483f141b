"""One calibrated probability from all signals of an answer, and what to do with it.

Promises: pure but for `load`; a logistic model in plain Python, so a service needs no numeric library; a missing signal
adds what its absence is worth and nothing else; every probability comes with the signals that moved it most. A
calibration is a value: `parse` reads the versioned JSON artifact and refuses whatever is not exactly one, `load` reads
the file that is shipped, `BASELINE` holds priors for when there is no file.

The model, per head and task type, with z_i = (x_i - mean_i) / scale_i cut to +-Z_MAX:
    logit p = bias + sum w_i z_i (i present) + sum m_i (i missing) + sum c_ab z_a z_b (a and b present)
A head is a place in the ladder; "default" fits any.

The decision. Taking an answer is expected to cost wrong (1 - p), asking on costs escalate, so it is taken when
p >= 1 - escalate / wrong: Chow's rule for rejection (C. K. Chow, "On optimum recognition error and reject tradeoff",
1970), with the tier above taken to be right. docs/gates.md says why that is assumed rather than predicted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.executor.gates.signals import NAMES, Signals
from spillway.routing import TaskType

__all__ = [
    "BASELINE",
    "DEFAULT_HEAD",
    "FORMAT",
    "Assessment",
    "Calibration",
    "CalibrationError",
    "Contribution",
    "Head",
    "Logistic",
    "Scaling",
    "load",
    "parse",
    "serialise",
    "threshold_for_cost",
]

FORMAT: Final = 1
DEFAULT_HEAD: Final = "default"
Z_MAX: Final = 4.0
_REASONS_MAX: Final = 3
_REASON_LEAST: Final = 0.05  # in log-odds; less is no reason
_ARTIFACT_BYTES_MAX: Final = 4_000_000
_PRODUCTS_MAX: Final = 200
_HEADS_MAX: Final = 64
_SHIPPED: Final = Path(__file__).parent.parent / "data" / "gate-builtin-1.json"
_INDEX: Final = {name: index for index, name in enumerate(NAMES)}


class CalibrationError(ValueError):
    """The artifact cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one signal added to the log-odds of the answer being acceptable."""

    signal: str
    log_odds: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """`p` is P(acceptable), 0 to 1; `contributions` the signals that moved it most, the strongest first."""

    p: float
    contributions: tuple[Contribution, ...]

    @property
    def reason(self) -> str:
        """The signals that moved it most, in words that quote nothing of the answer."""
        if not self.contributions:
            return "no signal stands out"
        return ", ".join(f"{c.signal} {c.log_odds:+.1f}" for c in self.contributions)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How signals are put on one scale, and which products of them are terms of their own."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    products: tuple[tuple[str, str], ...] = ()

    def standardised(self, signals: Signals) -> tuple[float | None, ...]:
        """z-values in the order of `NAMES`, cut to +-Z_MAX."""
        return tuple(
            None if value is None else max(-Z_MAX, min(Z_MAX, (value - mean) / scale))
            for value, mean, scale in zip(signals.values(), self.mean, self.scale, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Logistic:
    """Weights of one model: of the values, of their absence, of the products."""

    bias: float
    values: tuple[float, ...]
    missing: tuple[float, ...]
    products: tuple[float, ...] = ()

    def terms(self, z: Sequence[float | None], scaling: Scaling) -> list[float]:
        """What each signal adds to the log-odds; a product counts for its first signal."""
        found = [
            missing if value is None else weight * value
            for value, weight, missing in zip(z, self.values, self.missing, strict=True)
        ]
        for (one, other), weight in zip(scaling.products, self.products, strict=True):
            first, second = z[_INDEX[one]], z[_INDEX[other]]
            if first is not None and second is not None:
                found[_INDEX[one]] += weight * first * second
        return found


@dataclass(frozen=True, slots=True)
class Head:
    """The models of one place in the ladder, by task type; the one of `None` serves all types without their own."""

    models: Mapping[TaskType | None, Logistic]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted gate. Immutable; safe to share."""

    version: str
    scaling: Scaling
    heads: Mapping[str, Head]

    def p_acceptable(self, signals: Signals, task_type: TaskType | None) -> tuple[float, tuple[Contribution, ...]]:
        """P(acceptable) by the default head, and the signals that moved it most, strongest first."""
        assessment = self.assess(signals, task_type)
        return assessment.p, assessment.contributions

    def assess(self, signals: Signals, task_type: TaskType | None, head: str = DEFAULT_HEAD) -> Assessment:
        """As `p_acceptable`, with a reason in words. A head that is not there means the default one."""
        models = (self.heads.get(head) or self.heads[DEFAULT_HEAD]).models
        model = models.get(task_type) or models[None]
        terms = model.terms(self.scaling.standardised(signals), self.scaling)
        strongest = sorted(zip(NAMES, terms, strict=True), key=lambda pair: -abs(pair[1]))[:_REASONS_MAX]
        return Assessment(
            p=_sigmoid(model.bias + sum(terms)),
            contributions=tuple(Contribution(n, round(t, 3)) for n, t in strongest if abs(t) >= _REASON_LEAST),
        )


def threshold_for_cost(cost_escalate: float, cost_wrong: float) -> float:
    """The least P(acceptable) at which taking the answer is not dearer than asking on, 0 to 1.

    Both costs in one unit of money, not negative; `cost_wrong` 0 means that nothing is worth asking on for.
    """
    if cost_escalate < 0 or cost_wrong < 0:
        raise ValueError("costs are not negative")
    if cost_wrong == 0:
        return 0.0
    return max(0.0, 1.0 - cost_escalate / cost_wrong)


def load(path: Path | None = None) -> Calibration:
    """The calibration in `path`, or the shipped one. Raises CalibrationError, also when there is no such file."""
    path = path or _SHIPPED
    try:
        with path.open("rb") as file:
            raw = file.read(_ARTIFACT_BYTES_MAX + 1)
    except OSError as error:
        raise CalibrationError(f"cannot read {path}: {error.strerror}") from error
    return parse(raw)


def parse(raw: bytes) -> Calibration:
    """The calibration that an artifact holds. Raises CalibrationError."""
    if len(raw) > _ARTIFACT_BYTES_MAX:
        raise CalibrationError("the artifact is too large")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CalibrationError("the artifact is not JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CalibrationError(f"the artifact is not of format {FORMAT}")
    if document.get("signals") != list(NAMES):
        raise CalibrationError("the artifact was fitted to other signals than this version observes; fit it again")
    try:
        return _calibration(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CalibrationError(f"the artifact is damaged: {error}") from error


def serialise(calibration: Calibration, card: Mapping[str, object]) -> bytes:
    """The artifact: weights, and the card that says where they come from."""

    def logistic(model: Logistic) -> dict[str, object]:
        return {"bias": model.bias, "values": model.values, "missing": model.missing, "products": model.products}

    document = {
        "format": FORMAT,
        "version": calibration.version,
        "card": card,
        "signals": NAMES,
        "mean": calibration.scaling.mean,
        "scale": calibration.scaling.scale,
        "products": calibration.scaling.products,
        "heads": {
            name: {"any" if task is None else task.value: logistic(model) for task, model in head.models.items()}
            for name, head in calibration.heads.items()
        },
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _calibration(document: Mapping[str, Any]) -> Calibration:
    products = tuple((str(one), str(other)) for one, other in document["products"])
    if len(products) > _PRODUCTS_MAX or any(name not in _INDEX for pair in products for name in pair):
        raise ValueError("products of unknown signals, or too many")
    scaling = Scaling(_row(document["mean"], len(NAMES)), _row(document["scale"], len(NAMES)), products)
    if min(scaling.scale) <= 0:
        raise ValueError("a scale is not positive")
    heads = {str(name): Head(_by_task(models, scaling)) for name, models in document["heads"].items()}
    if len(heads) > _HEADS_MAX or DEFAULT_HEAD not in heads or any(None not in head.models for head in heads.values()):
        raise ValueError("no default head, a head without a model for any task type, or too many heads")
    return Calibration(str(document["version"]), scaling, heads)


def _by_task(models: Mapping[str, Any], scaling: Scaling) -> dict[TaskType | None, Logistic]:
    return {
        None if task == "any" else TaskType(task): Logistic(
            _row([model["bias"]], 1)[0],
            _row(model["values"], len(NAMES)),
            _row(model["missing"], len(NAMES)),
            _row(model["products"], len(scaling.products)),
        )
        for task, model in models.items()
    }


def _row(numbers: Sequence[float], length: int) -> tuple[float, ...]:
    row = tuple(float(number) for number in numbers)
    if len(row) != length or not all(math.isfinite(number) for number in row):
        raise ValueError("a row of weights has the wrong length or is not finite")
    return row


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


# Priors, for when nothing has been fitted, and for signals that a fit has seen no examples of: (mean, scale, weight).
# Set by hand from what is known of such signals; the probabilities that come of them are no measured ones.
_PRIORS: Final[Mapping[str, tuple[float, float, float]]] = {
    "agrees_first": (0.6, 0.5, 0.9),
    "agrees_second": (0.6, 0.5, 0.4),
    "agreeing_share": (0.6, 0.4, 0.3),
    "rivals_share": (0.2, 0.3, -0.3),
    "has_final_answer": (0.9, 0.3, 0.2),
    "has_expected_form": (0.9, 0.3, 0.3),
    "any_sum_wrong": (0.1, 0.3, -0.3),
    "hedges": (0.3, 0.5, -0.1),
    "corrections": (0.3, 0.5, -0.2),
    "repetition": (0.05, 0.15, -0.3),
    "is_json_broken": (0.05, 0.2, -0.2),
    "seems_cut": (0.05, 0.2, -0.4),
    "self_confidence": (0.8, 0.25, 0.5),
    "logprob_mean": (0.85, 0.12, 0.5),
    "logprob_min": (0.3, 0.25, 0.2),
}
_BASELINE_BIAS: Final = 1.0

BASELINE: Final = Calibration(
    version="priors",
    scaling=Scaling(
        tuple(_PRIORS.get(name, (0.0, 1.0, 0.0))[0] for name in NAMES),
        tuple(_PRIORS.get(name, (0.0, 1.0, 0.0))[1] for name in NAMES),
    ),
    heads={
        DEFAULT_HEAD: Head(
            {
                None: Logistic(
                    _BASELINE_BIAS,
                    tuple(_PRIORS.get(name, (0.0, 1.0, 0.0))[2] for name in NAMES),
                    (0.0,) * len(NAMES),
                )
            }
        )
    },
)
