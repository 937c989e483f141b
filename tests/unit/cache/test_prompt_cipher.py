"""What is sealed opens with its key, at its place, unchanged; nothing else does."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.store.prompt_cipher import KEYS_MAX, PromptCipher, PromptKeyError, parse_prompt_keys

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


@given(st.binary(max_size=2_000), st.text(max_size=100))
def test_what_is_sealed_opens_at_its_place(plain: bytes, place: str) -> None:
    cipher = PromptCipher([OLD])
    sealed = cipher.seal(plain, place)
    assert cipher.open(sealed, place) == plain
    assert len(sealed) == len(plain) + 33
    assert cipher.unreadable == 0


def test_the_same_text_is_sealed_differently_each_time() -> None:
    cipher = PromptCipher([OLD])
    assert len({cipher.seal(b"what is it?", "p") for _ in range(100)}) == 100
    assert b"what" not in cipher.seal(b"what is it?", "p")


def test_no_other_place_opens_it_and_that_is_counted() -> None:
    cipher = PromptCipher([OLD])
    sealed = cipher.seal(b"text", "redis/2/answer/k1")
    for number, place in enumerate(("redis/2/answer/k2", "redis/2/question/k1", "redis/3/answer/k1", ""), 1):
        assert cipher.open(sealed, place) is None
        assert cipher.unreadable == number


def test_no_changed_byte_and_no_missing_one_goes_unnoticed() -> None:
    cipher = PromptCipher([OLD])
    sealed = cipher.seal(b"text", "p")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert cipher.open(bytes(changed), "p") is None
        assert cipher.open(sealed[:position], "p") is None


@given(st.binary(max_size=100))
def test_what_was_not_sealed_does_not_open(raw: bytes) -> None:
    assert PromptCipher([OLD]).open(raw, "p") is None


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    before, during, after = PromptCipher([OLD]), PromptCipher([NEW, OLD]), PromptCipher([NEW])
    sealed = before.seal(b"text", "p")
    assert during.open(sealed, "p") == b"text"
    again = during.seal(b"text", "p")
    assert after.open(again, "p") == b"text"
    assert before.open(again, "p") is None
    assert after.open(sealed, "p") is None


def test_nothing_that_is_sealed_reads_as_text_or_as_a_vector() -> None:
    """One who has no keys must not take it for an entry in the clear."""
    sealed = PromptCipher([OLD]).seal(b"\0" * 1_536, "p")
    with pytest.raises(UnicodeDecodeError):
        sealed.decode()
    assert len(sealed) % 4


def test_keys_are_hexadecimal_or_base64_one_a_line() -> None:
    text = f"# in use since May\n{NEW.hex()}\n\n  {base64.b64encode(OLD).decode()} \n"
    assert parse_prompt_keys(text) == (NEW, OLD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing but this",
        "secret words",
        OLD.hex()[:-2],
        OLD.hex() + "00",
        "  ".join((OLD.hex()[:31], OLD.hex()[:31])),
        base64.b64encode(OLD + b"\0").decode(),
        base64.b64encode(OLD).decode() + "!",
        f"{OLD.hex()}\n{OLD.hex()}",
        "\n".join(bytes([number] * 32).hex() for number in range(KEYS_MAX + 1)),
    ],
)
def test_what_is_no_list_of_keys_is_refused_without_telling_it(text: str) -> None:
    with pytest.raises(PromptKeyError) as caught:
        parse_prompt_keys(text)
    for line in text.splitlines():
        assert not line or line not in str(caught.value)


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_of_keys_fail_otherwise(text: str) -> None:
    with contextlib.suppress(PromptKeyError):
        assert all(len(key) == 32 for key in parse_prompt_keys(text))
