"""Secrets of files and variables: which is read, and that no message repeats one."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime.config import SecretError, SecretMissingError, read_api_key, read_secret


def test_a_secret_comes_from_its_file_before_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", " from-env ")
    file = tmp_path / "key"
    file.write_text("from-file\n")
    assert read_secret("TOY_KEY", str(file)) == "from-file"
    assert read_secret("TOY_KEY", "") == "from-env"
    assert read_secret("", "") == ""


def test_a_secret_that_is_named_but_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_KEY", raising=False)
    with pytest.raises(SecretError, match="TOY_KEY"):
        read_secret("TOY_KEY", "")
    with pytest.raises(SecretError, match="cannot be read"):
        read_secret("", str(tmp_path / "none"))
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(SecretError, match="is empty"):
        read_secret("", str(tmp_path / "empty"))


def test_a_file_that_may_be_a_secret_itself_is_named_in_no_message(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="the file that the setting names cannot be read"):
        read_secret("", "sk-abcdef123")
    with pytest.raises(SecretError, match=str(tmp_path / "none")):
        read_secret("", str(tmp_path / "none"))


def test_a_variable_that_may_be_a_secret_itself_is_named_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in ("gsk_abcdef123", "whsec_QUJD", "sk-abc"):
        with pytest.raises(SecretMissingError) as caught:
            read_secret(secret, "")
        assert str(caught.value) == "the environment variable that the setting names is not set"
    monkeypatch.setenv("gsk_abcdef123", "sk-…")
    with pytest.raises(SecretError, match="no usable key") as unusable:
        read_api_key("gsk_abcdef123", "")
    assert "gsk_" not in str(unusable.value)


@pytest.mark.parametrize("key", ["sk-…", "sk-\u00e9", "sk\n2", "sk-\x7f", "s\x00k"])
def test_a_key_that_no_header_can_carry_is_an_error_that_names_its_place_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    (tmp_path / "key").write_text(key, encoding="utf-8")
    places = {str(tmp_path / "key"): ("", str(tmp_path / "key"))}
    if "\x00" not in key:
        monkeypatch.setenv("TOY_KEY", key)
        places["TOY_KEY"] = ("TOY_KEY", "")
    for name, place in places.items():
        with pytest.raises(SecretError, match=r"not printable ASCII") as caught:
            read_api_key(*place)
        assert name in str(caught.value)
        assert key not in str(caught.value)
        assert not isinstance(caught.value, SecretMissingError)


def test_a_key_is_stripped_and_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", "\u00a0sk-~!2 \n")
    assert read_api_key("TOY_KEY", "") == "sk-~!2"
    monkeypatch.delenv("TOY_KEY")
    with pytest.raises(SecretMissingError):
        read_api_key("TOY_KEY", "")
    assert read_api_key("", "") == ""
