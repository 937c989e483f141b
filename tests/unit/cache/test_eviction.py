"""Who leaves when there is no room, and whose entries they are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.store.eviction import Evictor


def evictor(entries: int = 4, tenant_entries: int = 100, size_bytes: int = 1_000_000) -> Evictor:
    return Evictor(entries_max=entries, tenant_entries_max=tenant_entries, bytes_max=size_bytes)


def add(evictor: Evictor, key: str, tenant: str = "t", *, size: int = 1_000, cost: int = 100_000) -> list[str]:
    return evictor.add(key, tenant=tenant, size_bytes=size, cost_nanousd=cost)


def test_what_was_served_stays() -> None:
    full = evictor(2)
    add(full, "a")
    add(full, "b")
    full.use("a")
    assert add(full, "c") == ["b"]


def test_what_was_dear_stays() -> None:
    full = evictor(2)
    add(full, "dear", cost=9_000_000)
    add(full, "cheap")
    assert add(full, "new") == ["cheap"]


def test_what_is_large_leaves() -> None:
    full = evictor(2)
    add(full, "large", size=50_000)
    add(full, "small")
    assert add(full, "new") == ["large"]


def test_what_was_served_often_but_long_ago_leaves_in_the_end() -> None:
    full = evictor(2)
    add(full, "old")
    for _ in range(5):
        full.use("old")
    evicted = [key for number in range(20) for key in add(full, f"new {number}")]
    assert "old" in evicted


def test_a_tenant_beyond_its_limit_makes_room_among_its_own() -> None:
    full = evictor(100, tenant_entries=2)
    add(full, "other", "other", cost=1)
    add(full, "a")
    add(full, "b")
    assert add(full, "c") in (["a"], ["b"])
    assert set(full.keys_of("other")) == {"other"}


@pytest.mark.parametrize("limit", ["entries", "bytes"])
def test_a_flood_evicts_only_itself_once_it_has_more_than_its_share(limit: str) -> None:
    full = evictor(30) if limit == "entries" else evictor(1_000, size_bytes=30_000)
    for number in range(10):  # a third of the room each
        add(full, f"one {number}", "one", cost=1)
        add(full, f"two {number}", "two", cost=1)
    evicted = [key for number in range(500) for key in add(full, f"flood {number}", "flood", cost=10**9)]
    assert evicted
    assert all(key.startswith("flood") for key in evicted)


def test_a_replaced_entry_counts_once_and_anew() -> None:
    full = evictor(2)
    for _ in range(5):
        assert add(full, "a", size=7) == []
        full.use("a")
    assert (len(full), full.size_bytes) == (1, 7)
    add(full, "a")
    add(full, "b")
    full.use("b")
    assert add(full, "c") == ["a"]


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        evictor(0)


steps = st.tuples(
    st.sampled_from(["add", "add", "add", "use", "use", "remove"]),
    st.integers(0, 30),
    st.integers(1, 400),
    st.integers(0, 10**7),
)


@given(st.lists(steps, max_size=120))
def test_limits_hold_and_the_least_valuable_leaves_after_any_history(
    history: list[tuple[str, int, int, int]],
) -> None:
    """Against a model that computes every priority anew and looks through all of them."""
    entries_max, tenant_entries_max, bytes_max = 10, 6, 2_000
    full = Evictor(entries_max=entries_max, tenant_entries_max=tenant_entries_max, bytes_max=bytes_max)
    sizes: dict[str, int] = {}
    for step, number, size, cost in history:
        key, tenant = f"k{number}", f"t{number % 3}"
        if step == "use":
            full.use(key)
        elif step == "remove":
            assert full.remove(key) == (sizes.pop(key, None) is not None)
        else:
            before = dict(sizes)
            before.pop(key, None)
            evicted = add(full, key, tenant, size=size, cost=cost)
            assert len(set(evicted)) == len(evicted)
            for gone in evicted:
                del before[gone]
            # No entry more than was needed left.
            last = evicted[-1:]
            together = sum(before.values()) + size
            own = sum(1 for each in before if int(each[1:]) % 3 == number % 3)
            assert not last or (
                len(before) + 1 >= entries_max
                or together + sum(sizes[each] for each in last) > bytes_max
                or own + 1 >= tenant_entries_max
            )
            sizes = {**before, key: size}
        assert len(full) == len(sizes) <= entries_max
        assert full.size_bytes == sum(sizes.values()) <= bytes_max
        for name in range(3):
            mine = {each for each in sizes if int(each[1:]) % 3 == name}
            assert set(full.keys_of(f"t{name}")) == mine
            assert len(mine) <= tenant_entries_max


@pytest.mark.parametrize("seed", range(20))
def test_many_at_once_leave_and_stay_as_one_after_the_other(seed: int) -> None:
    rng = random.Random(seed)
    limits = {"entries_max": 60, "tenant_entries_max": rng.choice((20, 60)), "bytes_max": rng.choice((4_000, 10**6))}
    rows = [
        (f"k{rng.randrange(120)}", f"t{rng.randrange(4)}", rng.randrange(1, 200), rng.randrange(5_000))
        for _ in range(rng.choice((40, 200)))
    ]
    at_once, singly = Evictor(**limits), Evictor(**limits)
    assert at_once.fill(rows) == [
        key
        for name, tenant, size_bytes, cost_nanousd in rows
        for key in singly.add(name, tenant=tenant, size_bytes=size_bytes, cost_nanousd=cost_nanousd)
    ]
    assert [sorted(at_once.keys_of(f"t{each}")) for each in range(4)] == [
        sorted(singly.keys_of(f"t{each}")) for each in range(4)
    ]
    later = [
        [each.add(f"later {number}", tenant="t0", size_bytes=50, cost_nanousd=9_000) for number in range(50)]
        for each in (at_once, singly)
    ]
    assert later[0] == later[1]
