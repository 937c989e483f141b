"""The layout that ARCHITECTURE.md draws is the layout that stands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def tracked() -> list[str]:
    run = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return run.stdout.splitlines()


def test_the_fixed_paths_are_there() -> None:
    for path in ("README.md", "protos", "services/classifier", "services/cache", "services/executor", "tests"):
        assert (REPOSITORY / path).exists(), path


def test_no_junk_drawer_modules() -> None:
    junk = [path for path in tracked() if re.search(r"(^|/)(utils|helpers|common|misc)(\.py|/)", path)]
    assert junk == []
