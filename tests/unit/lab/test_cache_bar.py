"""A bar that is chosen on near misses: which step is taken, and what of an artifact changes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab.cache_bar import NEAR_MISSES_SERVED_MAX, Step, loosest, steps, with_bars
from lab.cache_data import CacheDataError, Pairs, read_cache_file
from lab.cache_pairs import SERVED_FALSE_RATE, guarded, scores
from lab.cache_stream import PACKAGED_MODEL
from services.cache.matching.pair_model import PairModelError, parse_pair_model
from tests.support.embedding_model import real_encoder

DATA = Path(__file__).parents[3] / "lab" / "data"
COUNT = 1_000


def every_step(near: list[float], *, passed: bool = True) -> list[Step]:
    """Steps over different pairs whose log odds are 0 to 9.99, and near misses with these."""
    held_out = np.arange(COUNT) / 100.0
    judged = np.asarray(near), np.full(len(near), passed), np.zeros(len(near), np.bool_)
    return list(steps(held_out, np.ones(COUNT, np.bool_), np.zeros(COUNT, np.bool_), judged))


def test_the_loosest_step_is_taken_that_serves_few_enough_near_misses() -> None:
    near = [9.0, 7.0, 5.0, *[-1.0] * 397]
    found = every_step(near)
    chosen = loosest(found, len(near))
    assert chosen.near_misses == 2 == NEAR_MISSES_SERVED_MAX * len(near)
    assert 5.0 < chosen.bar <= 5.0 + 2 * COUNT / 100.0 * 0.002
    assert min(step.bar for step in found if step.near_misses <= 2) == chosen.bar


def test_a_near_miss_at_the_bar_is_served_and_one_that_a_guard_refuses_is_not() -> None:
    bar = every_step([0.0])[10].bar
    assert [step.near_misses for step in every_step([bar])[9:12]] == [0, 1, 1]
    assert not any(step.near_misses for step in every_step([bar], passed=False))


def test_paraphrases_are_counted_apart() -> None:
    judged = np.array([9.0, 8.0, 1.0]), np.array([True, True, True]), np.array([True, False, True])
    found = list(steps(np.arange(COUNT) / 100.0, np.ones(COUNT, np.bool_), np.zeros(COUNT, np.bool_), judged))
    assert (found[0].near_misses, found[0].paraphrases) == (0, 0)
    assert (found[-1].near_misses, found[-1].paraphrases) == (1, 2)


def test_there_is_no_step_below_what_guards_let_pass() -> None:
    passed = np.arange(COUNT) >= COUNT - 100
    judged = np.zeros(1), np.ones(1, np.bool_), np.zeros(1, np.bool_)
    found = list(steps(np.arange(COUNT) / 100.0, passed, np.zeros(COUNT, np.bool_), judged))
    assert found[-1].bar >= 9.0
    assert 0.098 <= found[-1].share <= 0.1


def test_where_the_strictest_step_serves_too_many_there_is_no_bar() -> None:
    with pytest.raises(CacheDataError):
        loosest(every_step([99.0] * 3), 3)
    with pytest.raises(CacheDataError):
        loosest(every_step([]), 0)


def test_only_the_bars_the_version_and_the_card_change() -> None:
    data = PACKAGED_MODEL.read_bytes()
    written = with_bars(data, (0.25, -0.5), version="other", note={"share": 0.01})
    before, after = parse_pair_model(data), parse_pair_model(written)
    assert (after.version, after.with_vectors.served_from, after.without_vectors.served_from) == ("other", 0.25, -0.5)
    with np.load(io.BytesIO(data)) as old, np.load(io.BytesIO(written)) as new:
        changed = {name for name in old.files if not np.array_equal(old[name], new[name])}
        cards = [json.loads(str(archive["card"])) for archive in (old, new)]
    assert changed == {"version", "card", "digest", "with_vectors", "without_vectors"}
    assert replace(after.with_vectors, served_from=0.0) == replace(before.with_vectors, served_from=0.0)
    assert cards[1] == cards[0] | {"version": "other", "bar": {"share": 0.01}}


def test_what_is_no_artifact_is_given_no_bar() -> None:
    with pytest.raises(PairModelError):
        with_bars(b"PK", (0.0, 0.0), version="v", note={})


def test_the_packaged_bar_is_the_one_that_was_chosen() -> None:
    model = parse_pair_model(PACKAGED_MODEL.read_bytes())
    with np.load(PACKAGED_MODEL, allow_pickle=False) as archive:
        card = json.loads(str(archive["card"]))
    assert model.version == card["version"] == "2026-11-22-3"
    assert card["bar"]["share"] == SERVED_FALSE_RATE
    served, of = card["bar"]["near_misses"]
    assert served <= NEAR_MISSES_SERVED_MAX * of


def test_at_the_packaged_bar_few_of_the_near_misses_of_the_repository_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_encoder()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = parse_pair_model(PACKAGED_MODEL.read_bytes())
    served = near_misses = 0
    for name in ("cache_near_misses.jsonl", "cache_added_matter.jsonl"):
        pairs = read_cache_file(DATA / name)
        assert isinstance(pairs, Pairs)
        near = pairs.take(np.flatnonzero(~pairs.same))
        passed = near.take(np.flatnonzero(guarded(near)))
        near_misses += len(near)
        served += int((scores(model, passed)[0] >= model.with_vectors.served_from).sum()) if len(passed) else 0
    assert served <= NEAR_MISSES_SERVED_MAX * near_misses
