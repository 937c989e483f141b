"""Whose answer an entry has, when the first of those that share it is stored anew with another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.cache.entry import Entry, Scope, Selector
from services.cache.entry_group import SECRET_BYTES, founded_group, group_of
from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.nearby import Meaning, Nearby
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_control import Judged, Source
from services.cache.partition import entry_key
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import Embedding, Message, Role, ToolCall
from spillway.routing import TaskType
from tests.support.cache_parts import MODEL, answer, cache_over, chat, entry, vector

ACME = Scope("acme")
SECRET = bytes(SECRET_BYTES)
WORDINGS = ("How do I reset my router?", "how can the router be reset", "what is the way to reset a router")
FIRST_S = 600.0
KEYS = [entry_key(ACME, chat(text)) for text in WORDINGS]


def at(number: int) -> Embedding:
    values = vector("r", 64) + 0.1 * vector(f"q{number}", 64)
    return Embedding(values.astype("<f4").tobytes(), MODEL)


async def put(cache: SemanticCache, number: int, said: str) -> None:
    await cache.store(
        ACME,
        chat(WORDINGS[number]),
        answer(said),
        embedding=at(number),
        task_type=TaskType.OTHER,
        ttl_s=FIRST_S if number == 0 else 2.0 * FIRST_S,
    )


async def near(cache: SemanticCache) -> Nearby:
    values = vector("r", 64)
    embedding = Embedding(values.astype("<f4").tobytes(), MODEL)
    meaning = cache._policy.meaning(ACME, chat("resetting a router"), embedding, values, TaskType.OTHER)
    assert isinstance(meaning, Meaning)
    nearby = await cache._search._nearby(ACME, meaning)
    assert nearby is not None
    return nearby


class Bench:
    """A cache that holds three wordings with one answer."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(entries_max=100, clock=self.clock)
        self.cache = cache_over(self.store, self.clock)

    @classmethod
    async def with_three(cls) -> Bench:
        bench = cls()
        for number in range(len(WORDINGS)):
            await put(bench.cache, number, "hold_the_button")
        assert len(set(await bench.groups())) == 1
        return bench

    async def replace(self, entry: Entry, **changes: Any) -> None:
        """As another replica does, of which this one has not heard yet."""
        assert await self.store.put(replace(entry, **changes), since=await self.store.moment(entry.key))

    async def entries(self) -> Sequence[Entry]:
        found = [each for each in await self.store.get_many(KEYS) if each is not None]
        assert len(found) == len(KEYS)
        return found

    async def groups(self) -> list[str]:
        return [group_of(each) for each in await self.entries()]


@pytest.mark.parametrize("leaves", ["invalidated", "expired", "replaced"])
async def test_a_first_that_is_stored_anew_with_another_answer_leaves_its_group_to_the_others(leaves: str) -> None:
    bench = await Bench.with_three()
    (old, *_) = await bench.groups()
    if leaves == "invalidated":
        await bench.cache.invalidate(Selector(entry_key=KEYS[0]), dry_run=False)
        bench.cache._search.removed(KEYS[0])
    elif leaves == "expired":
        bench.clock.advance(FIRST_S + 1.0)
    await put(bench.cache, 0, "use_the_app")
    new, *kept = await bench.groups()
    assert kept == [old, old]
    assert new != old
    nearby = await near(bench.cache)
    assert {each.group for each in nearby.near} == {old, new}
    assert nearby.proposal.group == old
    assert nearby.entry.answer == answer("hold_the_button")


async def test_another_answer_begins_without_the_record_of_the_one_before_and_the_same_one_keeps_it() -> None:
    bench = Bench()
    records = []
    for said in ("hold_the_button", "hold_the_button", "use_the_app"):
        await put(bench.cache, 0, said)
        (group,) = [group_of(each) for each in await bench.store.get_many(KEYS[:1]) if each]
        controller = bench.cache._search.classes.of(TaskType.OTHER, ACME.tenant).controller
        records.append(controller.record(group))
        controller.observe(Judged(np.zeros(len(NAMES)), 0.0, group=group), same=True, source=Source.MISS)
    assert records[0] == records[2] == 0.0 < records[1]


async def test_an_answer_that_another_replica_replaced_no_longer_votes_with_its_group() -> None:
    bench = await Bench.with_three()
    (old, *_) = await bench.groups()
    known = bench.cache._search._known
    for each, said in zip(await bench.entries(), ("use_the_app", "unplug_it", "see_the_shop"), strict=True):
        name = founded_group(each.key, answer(said), secret=SECRET)
        await bench.replace(each, answer=answer(said), group=name, aliases=1)
    nearby = await near(bench.cache)
    assert nearby.proposal.group == group_of(nearby.entry) != old
    assert (found := known.get(nearby.entry.key)) is not None
    assert found.group == nearby.proposal.group


class Told(MemoryStore):
    """Calls back before the entry with that key is read alone."""

    on_read: tuple[str, Callable[[], Awaitable[None]]] | None = None

    async def get_many(self, keys: Sequence[str]) -> list[Entry | None]:
        if self.on_read is not None and list(keys) == [self.on_read[0]]:
            (_, call), self.on_read = self.on_read, None
            await call()
        return await super().get_many(keys)


async def test_an_answer_that_is_replaced_while_others_are_read_is_read_again() -> None:
    bench = Bench()
    bench.store = store = Told(entries_max=100, clock=bench.clock)
    bench.cache = cache_over(store, bench.clock)
    for number, said in enumerate(("hold_the_button", "unplug_it", "unplug_it")):
        await put(bench.cache, number, said)
    known = bench.cache._search._known

    async def replaced() -> None:
        (each,) = await MemoryStore.get_many(store, KEYS[:1])
        assert each is not None
        name = founded_group(each.key, answer("use_the_app"), secret=SECRET)
        await bench.replace(each, answer=answer("use_the_app"), group=name)
        (each,) = await MemoryStore.get_many(store, KEYS[:1])
        assert each is not None
        known.learn(each)
        await store.delete(KEYS[1:])

    proposed = (await near(bench.cache)).entry.key
    assert proposed in KEYS[1:]
    known.forget(KEYS[0])  # so it is read first, with what else is not known
    store.on_read = (proposed, replaced)
    nearby = await near(bench.cache)
    assert nearby.entry.answer == answer("use_the_app")
    assert nearby.proposal.group == group_of(nearby.entry)


async def test_what_is_forgotten_as_soon_as_it_is_read_is_proposed_all_the_same() -> None:
    bench = await Bench.with_three()
    bench.cache._search._known._entries_max = 0
    for key in KEYS:
        bench.cache._search._known.forget(key)
    assert (await near(bench.cache)).entry.answer == answer("hold_the_button")


async def test_the_fresh_answer_of_an_audit_joins_the_group_of_the_one_that_was_served() -> None:
    bench = await Bench.with_three()
    told = await bench.cache.record_evidence(
        ACME,
        chat("resetting a router"),
        answer("hold_the_button"),
        key=KEYS[1],
        embedding=at(9),
        task_type=TaskType.OTHER,
    )
    assert told is Comparison.SAME
    (kept,) = await bench.store.get_many([entry_key(ACME, chat("resetting a router"))])
    assert kept is not None
    assert {group_of(kept)} == set(await bench.groups())


async def test_what_was_stored_without_a_name_is_its_keys_group_and_others_join_that() -> None:
    bench = await Bench.with_three()
    (first, *others) = await bench.entries()
    await bench.replace(first, group="")
    for each in others:
        await bench.store.delete([each.key])
        bench.cache._search.removed(each.key)
    bench.cache._search._known.forget(first.key)
    await put(bench.cache, 1, "hold_the_button")
    await put(bench.cache, 2, "hold_the_button")
    assert await bench.groups() == [KEYS[0]] * 3


async def test_what_is_only_found_exactly_has_no_name() -> None:
    bench = Bench()
    await bench.cache.store(ACME, chat(WORDINGS[0]), answer("hold_the_button"))
    (found,) = await bench.store.get_many(KEYS[:1])
    assert found is not None
    assert found.group == ""


def test_a_name_stands_for_one_answer_under_one_key_and_is_no_key() -> None:
    calls = (ToolCall("1", "reset", "{}"),)
    said = answer("a")
    answers = [
        said,
        answer("b"),
        answer("\ud800"),
        replace(said, message=replace(said.message, tool_calls=calls)),
    ]
    names = {founded_group(key, each, secret=SECRET) for key in KEYS for each in answers}
    assert len(names) == len(KEYS) * len(answers)
    assert names.isdisjoint(KEYS)
    assert founded_group(KEYS[0], said, secret=SECRET) != founded_group(KEYS[0], said, secret=b"another")
    called = replace(said, message=replace(said.message, tool_calls=(ToolCall("2", "reset", "{}"),)))
    assert founded_group(KEYS[0], called, secret=SECRET) in names
    again = replace(said, cost_nanousd=1, model="another", message=Message.of(Role.ASSISTANT, "a"))
    assert founded_group(KEYS[0], again, secret=SECRET) in names


def test_an_entry_without_a_name_is_of_its_keys_group() -> None:
    old = entry("a", now_unix_s=0.0)
    assert group_of(old) == old.key
    assert group_of(replace(old, group="g")) == "g"
