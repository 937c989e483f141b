"""How many examples the long property tests try: short in CI, whole with HYPOTHESIS_PROFILE=thorough."""

from __future__ import annotations

import os

__all__ = ["examples"]

THOROUGH = "thorough"


def examples(short: int, thorough: int) -> int:
    """`short` in CI and on a developer's machine, `thorough` when that profile is asked for."""
    return thorough if os.environ.get("HYPOTHESIS_PROFILE", "") == THOROUGH else short
