"""When a provider wants to be asked again, by its headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.providers.retry_after import RETRY_AFTER_S_MAX, retry_after_s

SENT = "Tue, 01 Jul 2025 10:00:00 GMT"
SENT_UNIX_S = 1_751_364_000.0
HALF_A_MINUTE_LATER = "Tue, 01 Jul 2025 10:00:30 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "350"}, 0.35),
        ({"retry-after-ms": "350", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "9000", "retry-after": "1"}, 9.0),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": HALF_A_MINUTE_LATER, "date": SENT}, 30.0),
        ({"retry-after": SENT, "date": HALF_A_MINUTE_LATER}, 0.0),
        ({"retry-after": "Tue, 01 Jul 2025 10:00:30 -0000", "date": SENT}, 30.0),
        ({"retry-after": "1e300"}, RETRY_AFTER_S_MAX),
        ({"retry-after": "inf"}, RETRY_AFTER_S_MAX),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": SENT}, RETRY_AFTER_S_MAX),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "\u0663"}, None),
        ({"retry-after": "Tue, 99 Jul 2025 10:00:30 GMT", "date": SENT}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "9" * 1_000}, None),
    ],
)
def test_every_form_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_a_date_is_measured_by_our_clock_only_when_the_response_has_none() -> None:
    headers = {"retry-after": HALF_A_MINUTE_LATER}
    assert retry_after_s(headers) is None
    assert retry_after_s(headers, now_unix_s=SENT_UNIX_S + 10) == 20.0
    assert retry_after_s({**headers, "date": SENT}, now_unix_s=SENT_UNIX_S + 10) == 30.0
    assert retry_after_s({**headers, "date": "yesterday"}, now_unix_s=SENT_UNIX_S + 10) == 20.0


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_no_text_raises_or_leaves_the_bounds(after: str, after_ms: str, date: str) -> None:
    seconds = retry_after_s({"retry-after": after, "retry-after-ms": after_ms, "date": date}, now_unix_s=0.0)
    assert seconds is None or 0.0 <= seconds <= RETRY_AFTER_S_MAX
