"""What `python -m bench.classifier` prints of its figures."""

from __future__ import annotations

from typing import Any

import pytest

from bench.classifier import show

ROW = {"tokens": "8", "at_once": 1, "way": "embed", "p50_ms": 1.0, "p99_ms": 2.0, "cpu_ms": 1.5}
ALONE: dict[str, Any] = {
    "rows": [ROW],
    "rss_mb": 200.0,
    "overload_threads_1": [],
    "overload_threads_default": [],
    "load_before": (0.0,),
    "load_after": (0.0,),
    "cpus": 2,
}
BESIDE = ALONE | {
    "rows": [ROW | {"times": 3.0, "times_range": [2.0, 4.0]}],
    "peer_rss_mb": 900.0,
    "cosine_min": 0.9999999,
    "peer": {"torch": "2"},
}


def test_without_a_peer_nothing_is_said_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    show(ALONE)
    text = capsys.readouterr().out
    assert "cosine" not in text
    assert text.count("peer") == 1
    assert "peer none" in text


def test_the_table_has_as_many_columns_in_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    for found, columns in ((ALONE, 6), (BESIDE, 7)):
        show(found)
        table = capsys.readouterr().out.split("\n\n")[0].splitlines()
        assert [line.count("|") - 1 for line in table] == [columns] * 3


def test_beside_a_peer_its_figures_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    show(BESIDE)
    text = capsys.readouterr().out
    assert "least cosine to the peer's vectors: 0.9999999" in text
    assert "3.00 (2.00 to 4.00)" in text
    assert "peer 900 MB" in text
