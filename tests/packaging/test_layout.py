"""The layout that ARCHITECTURE.md draws is the layout that stands."""

from __future__ import annotations

import ast
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


def test_a_module_whose_head_says_that_it_is_pure_imports_nothing_that_waits_or_knows_the_time() -> None:
    impure = {
        *("aiohttp", "asyncio", "httpx", "onnxruntime", "opentelemetry", "redis", "socket", "sqlalchemy", "starlette"),
        *("structlog", "subprocess", "threading", "time", "uvicorn"),
    }
    wrong, seen = [], 0
    for path in tracked():
        if not re.match(r"(services|spillway)/.*\.py$", path):
            continue
        tree = ast.parse((REPOSITORY / path).read_text())
        if not re.search(r"\b[Pp]ure\b", ast.get_docstring(tree) or ""):
            continue
        seen += 1
        names = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        wrong += [f"{path}: {name}" for name in sorted(names) if name.partition(".")[0] in impure]
    assert seen > 100
    assert wrong == []
