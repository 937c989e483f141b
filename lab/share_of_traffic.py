"""Which threshold sends which share of traffic to the dearest tier, and how sure a sample makes us of it. Pure.

A row is a request: a prompt that was asked ten times is ten rows.

A prompt starts at the cheapest tier whose P(suffices) is at least the threshold, else at the dearest. So it goes to the
dearest where the P of the tier before it is below the threshold; as P never falls, that one tier decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.metrics import Interval

__all__ = ["Threshold", "share_at", "threshold_for"]

Floats = npt.NDArray[np.float64]

# Draws of the share's distribution: its 95 % bounds are then good to a thousandth or so.
DRAWS = 200_000
# A threshold is written down with so many digits.
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold, the share of prompts that it sends to the dearest tier, and the mix of starting tiers [tiers]."""

    threshold: float
    share: Interval
    mix: tuple[float, ...]


def threshold_for(probabilities: Floats, share: float, *, seed: int) -> Threshold:
    """The threshold whose share on the sample is nearest to `share`, by P(suffices) [n, tiers].

    The interval is that of the share among all prompts of the kind. The threshold lies between two neighbours of n
    values in order, so the share below it lies between two Beta-distributed ones, whatever the values' distribution:
    the same bounds as Clopper and Pearson's, though the threshold was chosen on the sample.
    """
    deciding = np.sort(probabilities[:, -2])
    count = len(deciding)
    wanted = round(share * count)
    # Equal values are on one side together, so the threshold is one of the values, or just above all.
    candidates = np.unique(np.concatenate([deciding, [min(1.0, np.nextafter(deciding[-1], 2.0))]]))
    below = np.searchsorted(deciding, candidates, side="left")
    best = int(np.argmin(np.abs(below - wanted)))
    threshold = float(candidates[best])
    # Rounded down it still parts the same values, or it is kept whole.
    lower = float(candidates[best - 1]) if best else 0.0
    rounded = float(np.floor(threshold * 10**DIGITS) / 10**DIGITS)
    return share_at(probabilities, rounded if lower < rounded <= threshold else threshold, seed=seed)


def share_at(probabilities: Floats, threshold: float, *, seed: int) -> Threshold:
    """What a given threshold does, with a Clopper-Pearson interval of the share."""
    count, tiers = probabilities.shape
    enough = probabilities >= threshold
    enough[:, -1] = True
    start = enough.argmax(axis=1)
    sent = int((start == tiers - 1).sum())
    return Threshold(
        threshold=threshold,
        share=Interval(sent / count, *_bounds(sent, count, seed=seed)),
        mix=tuple((np.bincount(start, minlength=tiers) / count).tolist()),
    )


def _bounds(sent: int, count: int, *, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    low = 0.0 if sent == 0 else float(np.quantile(generator.beta(sent, count + 1 - sent, DRAWS), 0.025))
    high = 1.0 if sent == count else float(np.quantile(generator.beta(sent + 1, count - sent, DRAWS), 0.975))
    return low, high
