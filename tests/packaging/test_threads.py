"""How many threads compute in each of the processes that run these tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
SAY = f"import os, sys, tests.conftest; print(*[os.environ[name] for name in {NAMES}], 'numpy' in sys.modules)"


@pytest.mark.parametrize(("told", "said"), [({}, "1 1 False"), ({"OPENBLAS_NUM_THREADS": "3"}, "3 1 False")])
def test_matrices_are_computed_on_one_thread_unless_told_otherwise_before_numpy_counts_processors(
    told: dict[str, str], said: str
) -> None:
    env = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", SAY], cwd=ROOT, env={**env, **told}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == said
