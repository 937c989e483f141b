"""One replica's part of the limits in Redis: shares of shards, and uses that wait to be told."""

from __future__ import annotations

import pytest

from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.redis_limits import (
    ENTRY_OVERHEAD_BYTES,
    LOOK_S,
    USED_KEYS_MAX,
    USES_PER_PUT_MAX,
    Limits,
    RedisLimits,
)
from services.runtime.clock import FakeClock
from tests.support.waiting import until

LIMITS = Limits(tenant_entries_max=50, entries_max=160, bytes_max=1_600_000)


def limits_of(room: str) -> list[int]:
    """Of a tenant's entries, of the shard's entries and bytes."""
    return [int(number) for number in room.split(" ")[:3]]


def uses_of(room: str) -> dict[str, int]:
    parts = room.partition("|")[2].split()
    return dict(zip(parts[::2], map(int, parts[1::2]), strict=True))


def room(limits: RedisLimits, shard: int = 0) -> str:
    return limits.room(shard, content_bytes=100, cost_nanousd=5_000)


def test_one_shard_has_all_the_room() -> None:
    limits = RedisLimits(LIMITS, shards=1, clock=FakeClock())
    limits.note(0, entries=160, size_bytes=1_600_000)
    assert limits_of(room(limits)) == [50, 160, 1_600_000]


def test_an_entry_takes_its_fields_and_what_redis_needs_beside_them() -> None:
    size, gain = room(RedisLimits(LIMITS, shards=1, clock=FakeClock())).partition("|")[0].split()[3:]
    assert (int(size), float(gain)) == (100 + ENTRY_OVERHEAD_BYTES, 5_000 / (100 + ENTRY_OVERHEAD_BYTES))


def test_a_shard_has_what_the_others_leave_and_its_equal_share_at_least() -> None:
    limits = RedisLimits(LIMITS, shards=16, clock=FakeClock())
    assert limits_of(room(limits)) == [50, 160, 1_600_000]
    limits.note(1, entries=100, size_bytes=200_000)
    assert limits_of(room(limits)) == [50, 60, 1_400_000]
    limits.note(2, entries=59, size_bytes=1_390_000)
    assert limits_of(room(limits)) == [50, 10, 100_000]
    assert limits_of(room(limits, shard=1)) == [50, 101, 210_000]


async def test_all_shards_are_looked_at_once_in_a_while_and_what_does_not_answer_is_believed_as_it_was() -> None:
    clock, asked = FakeClock(), list[int]()
    limits = RedisLimits(LIMITS, shards=4, clock=clock)
    limits.note(3, entries=5, size_bytes=50)

    async def ask(shard: int) -> tuple[int, int]:
        asked.append(shard)
        if shard == 3:
            raise StoreUnavailableError("away")
        return 10 * shard, 1_000

    async def all_asked() -> bool:
        return len(asked) == 4

    limits.look(ask)
    limits.look(ask)
    await until(all_asked, what="every shard is asked")
    limits.look(ask)
    assert limits_of(room(limits)) == [50, 160 - 10 - 20 - 5, 1_600_000 - 2_050]
    asked.clear()
    clock.advance(LOOK_S)
    limits.look(ask)
    await until(all_asked, what="every shard is asked again")
    await limits.close()
    assert asked == [0, 1, 2, 3]


def test_uses_go_with_the_shards_next_puts_once_and_so_many_at_a_time() -> None:
    limits = RedisLimits(LIMITS, shards=2, clock=FakeClock())
    for number in range(USED_KEYS_MAX + 10):
        for _ in range(1 + number % 2):
            limits.use(1, f"k{number}")
    assert uses_of(room(limits, shard=0)) == {}
    told: dict[str, int] = {}
    for _ in range(USED_KEYS_MAX // USES_PER_PUT_MAX):
        some = uses_of(room(limits, shard=1))
        assert len(some) == USES_PER_PUT_MAX
        told.update(some)
    assert uses_of(room(limits, shard=1)) == {}
    assert told == {f"k{number}": 1 + number % 2 for number in range(USED_KEYS_MAX)}


@pytest.mark.parametrize("limits", [Limits(0, 1, 1), Limits(1, 0, 1), Limits(1, 1, 0)])
def test_a_limit_of_nothing_is_refused(limits: Limits) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RedisLimits(limits, shards=1, clock=FakeClock())
