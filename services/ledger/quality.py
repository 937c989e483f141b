"""How good a target is beside the flagship, from grades of answers to the same requests.

Promises: pure; `ratio_lower` is the lower end of Fieller's 95 % interval of a ratio of two paired means, made cautious
for few grades, and 0 when nothing can be said.

Sources: E. C. Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16 (1954);
the quantiles of t: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["GradeSums", "ratio_lower", "t_quantile"]

_Z: Final = 1.959963984540054
# Exact where the expansion is not good enough: tan(0.475 pi), and 0.95 * sqrt(2 / (1 - 0.95 ** 2)).
_T_OF_FEW: Final = {1: 12.706204736174698, 2: 4.302652729749464}


@dataclass(frozen=True, slots=True)
class GradeSums:
    """Of the scores s and the flagship's scores f on the same requests: how many, and sums."""

    grades: int
    score: float
    flagship: float
    score_squared: float
    flagship_squared: float
    product: float

    @property
    def mean(self) -> float:
        return self.score / self.grades if self.grades else 0.0

    @property
    def flagship_mean(self) -> float:
        return self.flagship / self.grades if self.grades else 0.0


def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t with `degrees` >= 1 of freedom; relative error below 0.2 %."""
    if degrees in _T_OF_FEW:
        return _T_OF_FEW[degrees]
    z, v = _Z, float(degrees)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1_482 * z**5 - 1_920 * z**3 - 945 * z) / (92_160 * v**4)
    )


def ratio_lower(sums: GradeSums) -> float:
    """The lower end, at least 0, of the 95 % interval of mean / flagship_mean; 0 with fewer than two grades.

    One more pair is counted in, the worst there can be: 0 where the flagship has 1. Without it three equal grades
    would have no variance, and so an interval without any width. With it n equal grades say 1 - 3/n, about what the
    rule of three says of n trials without a failure; for many grades it is lost among them.
    """
    if sums.grades < 2:
        return 0.0
    n = sums.grades + 1
    score, flagship = sums.score / n, (sums.flagship + 1.0) / n
    spread = n - 1
    score_variance = max(0.0, sums.score_squared - n * score**2) / spread
    flagship_variance = max(0.0, sums.flagship_squared + 1.0 - n * flagship**2) / spread
    covariance = (sums.product - n * score * flagship) / spread
    # The ratios r for which score - r * flagship is not significantly different from 0: a quadratic in r.
    t_squared_over_n = t_quantile(n - 1) ** 2 / n
    a = flagship**2 - t_squared_over_n * flagship_variance
    b = score * flagship - t_squared_over_n * covariance
    c = score**2 - t_squared_over_n * score_variance
    if a <= 0.0:  # the flagship's own mean may be 0
        return 0.0
    root = math.sqrt(max(0.0, b**2 - a * c))
    return max(0.0, (b - root) / a)
