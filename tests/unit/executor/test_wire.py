"""Events and JSON as they come over a provider's wire, however they are cut, escaped or bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.providers.sse import EventParser, EventTooLargeError
from services.executor.providers.wire import load_object


@given(
    st.lists(st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), min_size=1), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 7),
)
def test_events_are_the_same_however_they_are_cut(payloads: list[str], newline: str, size: int) -> None:
    raw = ("\ufeff: hi" + newline + newline).encode()
    raw += "".join(f"id: 1{newline}data: {payload}{newline}{newline}" for payload in payloads).encode()
    parser = EventParser(10_000)
    got = [event for start in range(0, len(raw), size) for event in parser.feed(raw[start : start + size])]
    assert [*got, *parser.end()] == payloads


def test_several_data_lines_are_one_event_and_a_missing_end_is_forgiven() -> None:
    parser = EventParser(100)
    assert list(parser.feed(b"data: a\ndata:b\n\ndata: c")) == ["a\nb"]
    assert list(parser.end()) == ["c"]


@pytest.mark.parametrize("raw", [b"x" * 200, b"data: 123456789\n" * 20])
def test_an_event_is_bounded(raw: bytes) -> None:
    with pytest.raises(EventTooLargeError):
        list(EventParser(100).feed(raw))


@pytest.mark.parametrize("size", range(1, 12))
def test_a_line_ending_that_is_cut_in_two_is_one_line_ending(size: int) -> None:
    raw = b"data: a\r\ndata: b\r\n\r\n"
    parser = EventParser(100)
    assert [event for start in range(0, len(raw), size) for event in parser.feed(raw[start : start + size])] == ["a\nb"]


@given(st.text(), st.sampled_from(["\\ud800", "\\uDFFF", "\\ud83d\\ud83d", "\\ude00\\ud83d"]))
def test_no_surrogate_without_a_partner_gets_in(around: str, escape: str) -> None:
    quoted = json.dumps(around)[1:-1]
    raw = f'{{"{quoted}{escape}": ["{escape}{quoted}", {{"x": "{escape}"}}]}}'
    json.dumps(load_object(raw), ensure_ascii=False).encode()


def test_pairs_of_surrogates_and_quoted_escapes_stay_as_they_are() -> None:
    assert load_object(r'{"a": "\ud83d\ude00", "b": "\\ud800"}') == {"a": "😀", "b": r"\ud800"}
    assert load_object(b'\xef\xbb\xbf{"a": "\xed\xa0\x80"}')["a"].strip("\ufffd") == ""
