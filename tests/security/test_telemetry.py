"""The embedding model tells its makers nothing: no report kept for them, no look-up of their hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from services.classifier.model_build import build

ROOT = Path(__file__).resolve().parents[2]

EMBED = """
import sys
from pathlib import Path
from services.classifier.startup import open_encoder
assert open_encoder(Path(sys.argv[1])).encode(["a text"]).shape == (1, 384)
"""


def test_embedding_writes_nothing_at_home_and_nowhere_else(tmp_path: Path) -> None:
    model, home = tmp_path / "model", tmp_path / "home"
    build(model)
    home.mkdir()
    before = sorted(path.name for path in model.iterdir())
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "TMPDIR": str(home)}
    inherited = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", EMBED, str(model)], check=True, cwd=ROOT, env=inherited | places, timeout=100)
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*")) == []
    assert sorted(path.name for path in model.iterdir()) == before


def test_one_module_imports_onnxruntime_so_that_nothing_imports_it_untold() -> None:
    importing = re.compile(r"^\s*(import|from) onnxruntime\b", re.MULTILINE)
    sources = [path for folder in ("services", "spillway", "lab", "bench") for path in (ROOT / folder).rglob("*.py")]
    assert sources
    found = [str(path.relative_to(ROOT)) for path in sources if importing.search(path.read_text(encoding="utf-8"))]
    assert found == ["services/classifier/encoder.py"]
