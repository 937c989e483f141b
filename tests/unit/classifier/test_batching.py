"""The order in which waiting texts are computed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classifier.batching import (
    BATCH_ITEMS_MAX,
    BATCH_TOKENS_MAX,
    BULK_WAITS,
    PASSED_OVER_MAX,
    BatchLimits,
    BatchQueue,
    Pace,
    tokens_estimate,
)


def test_short_texts_do_not_wait_for_a_long_one() -> None:
    queue: BatchQueue[str] = BatchQueue(100)
    queue.add("long", 256)
    queue.add("short", 10)
    queue.add("brief", 12)
    assert queue.take() == ["short", "brief"]
    assert queue.take() == ["long"]
    assert queue.take() == []


def test_a_long_text_is_passed_over_a_bounded_number_of_times() -> None:
    queue: BatchQueue[str] = BatchQueue(100)
    queue.add("long", 256)
    batches = 0
    while batches < 10 * PASSED_OVER_MAX:
        queue.add(f"short-{batches}", 5)
        batches += 1
        if "long" in queue.take():
            break
    assert batches == PASSED_OVER_MAX + 1


def test_a_full_queue_refuses() -> None:
    queue: BatchQueue[int] = BatchQueue(2)
    queue.add(1, 5)
    queue.add(2, 5)
    assert not queue.has_room_for(1)
    with pytest.raises(OverflowError):
        queue.add(3, 5)


def test_a_removed_text_is_not_computed() -> None:
    queue: BatchQueue[int] = BatchQueue(2)
    queue.add(1, 5)
    assert queue.remove(1)
    assert not queue.remove(1)
    assert queue.take() == []


def test_the_estimate_of_tokens_stays_within_the_window() -> None:
    assert tokens_estimate(0, 256) == 2
    assert tokens_estimate(10**9, 256) == 256


def test_a_text_of_a_large_call_goes_after_the_others_and_makes_their_batch_no_longer() -> None:
    queue: BatchQueue[str] = BatchQueue(10, BatchLimits(items_max=2))
    for name in ("many-1", "many-2"):
        queue.add(name, 5, bulk=True)
    queue.add("one", 9)
    assert queue.take() == ["one"]
    assert queue.take() == ["many-1", "many-2"]


def test_a_judgement_goes_next_however_long_a_large_call_has_waited() -> None:
    queue: BatchQueue[int] = BatchQueue(1_000)
    for key in range(256):
        queue.add(key, 256, bulk=True)
    for _ in range(10 * PASSED_OVER_MAX):
        queue.take()
    assert queue.tokens_before(12) == 0
    queue.add(1_000, 12)
    assert queue.take() == [1_000]


def test_where_judgements_never_end_large_calls_have_a_quarter_of_the_tokens() -> None:
    queue: BatchQueue[int] = BatchQueue(10_000)
    for key in range(256):
        queue.add(key, 128, bulk=True)
    judgements, batches, done = 1_000, 0, 0
    for _ in range(200):
        while len(queue) < 300 + 256 - done:
            queue.add(judgements, 16)
            judgements += 1
        batch = queue.take()
        led = [key for key in batch if key < 256]
        batches += 1
        done += len(led)
    # 512 tokens are a batch: 4 texts of the large call.
    assert BULK_WAITS * done * 128 <= batches * BATCH_TOKENS_MAX
    assert done * 128 >= batches * BATCH_TOKENS_MAX // (BULK_WAITS + 1) - BATCH_TOKENS_MAX


def test_what_goes_before_a_judgement_counts_the_large_call_whose_turn_comes_and_the_text_that_has_waited() -> None:
    queue: BatchQueue[int] = BatchQueue(1_000, BatchLimits(tokens_max=100))
    for key in range(20):
        queue.add(key, 50, bulk=True)
    assert queue.tokens_before(10) == 0
    for key in range(100, 135):
        queue.add(key, 10)
    # Batches of 100 tokens: after three of judgements, one of the large call.
    assert queue.tokens_before(10) == 35 * 10 + 100
    assert queue.tokens_before(50, bulk=True) == 35 * 10 + 20 * 50
    for _ in range(2):
        assert min(queue.take()) >= 100
    assert queue.tokens_before(10) == 15 * 10 + 100
    assert min(queue.take()) >= 100
    assert queue.take() == [0, 1]


def test_a_text_that_a_small_call_wants_too_is_in_a_hurry() -> None:
    queue: BatchQueue[str] = BatchQueue(10, BatchLimits(items_max=1))
    for name in ("many-1", "many-2"):
        queue.add(name, 5, bulk=True)
    queue.hurry("many-2")
    queue.hurry("unknown")
    assert queue.take() == ["many-2"]


def test_a_batch_of_long_prompts_holds_few_of_them() -> None:
    queue: BatchQueue[int] = BatchQueue(100)
    for key in range(32):
        queue.add(key, 256)
    assert len(queue.take()) == BATCH_TOKENS_MAX // 256


def test_a_machine_that_became_slower_is_believed_sooner_than_one_that_became_faster() -> None:
    pace = Pace()
    assert pace.needed_s(1.0) == 0.0
    pace.observe(100, 1.0)
    pace.observe(100, 2.0)
    slower = pace.needed_s(1.0) - 0.01
    pace.observe(100, 0.5)
    assert 0.0 < 0.01 + slower - pace.needed_s(1.0) < slower
    assert pace.needed_s(2.0, token_s_min=1.0) == 2.0


@given(st.lists(st.integers(min_value=2, max_value=256), max_size=200))
def test_every_text_is_computed_once_in_batches_within_the_limits(lengths: list[int]) -> None:
    queue: BatchQueue[int] = BatchQueue(200)
    for key, tokens in enumerate(lengths):
        queue.add(key, tokens)
    seen: list[int] = []
    while batch := queue.take():
        longest = max(lengths[key] for key in batch)
        assert len(batch) <= BATCH_ITEMS_MAX
        assert len(batch) == 1 or len(batch) * longest <= BATCH_TOKENS_MAX
        seen.extend(batch)
    assert sorted(seen) == list(range(len(lengths)))
