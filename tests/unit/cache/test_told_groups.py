"""What becomes of a hit reaches the record of the answer that was served, and of no other."""

from __future__ import annotations

import numpy as np
import pytest

from services.cache.entry import Scope
from services.cache.entry_group import group_of
from services.cache.matching import judged_hits
from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.partition_classes import PartitionClass
from services.cache.matching.risk_control import RiskPolicy
from services.cache.matching.risk_model import LOG_ODDS, RiskModel
from services.cache.outcomes import Found
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import Embedding
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import MODEL, answer, cache_over, chat, vector

ACME = Scope("acme")
STORED = "How do I reset my router?"
SAME_WORDS = "how do I  reset my router"
PARAPHRASE = "how can I reset my router"

CREDULOUS = RiskModel(
    mean=np.zeros(len(NAMES)),
    scale=np.ones(len(NAMES)),
    weights=np.asarray([*(0.0 for _ in NAMES), 9.0]),
    recalibrated=(1.0 / (1.0 + np.exp(LOG_ODDS))).tolist(),
)
"""Takes everything for right."""


def near(name: str, distance: float) -> Embedding:
    values = vector(name, 64) + distance * vector(f"{name}{distance}", 64)
    return Embedding(values.astype("<f4").tobytes(), MODEL)


class Bench:
    """A cache with one answer, which takes whatever is proposed for right once it `believes`."""

    def __init__(self, *, audit_rate: float = 0.0) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(entries_max=100, clock=self.clock)
        self.cache = cache_over(self.store, self.clock, risk=RiskPolicy(max_wrong_rate=0.5, audit_rate=audit_rate))

    @property
    def learned(self) -> PartitionClass:
        (only,) = self.cache._search.classes.all()
        return only

    async def put(self, text: str, said: str, at: Embedding) -> str:
        stored = await self.cache.store(ACME, chat(text), answer(said), embedding=at, task_type=TaskType.OTHER)
        return stored.entry_key

    async def look_up(self, text: str) -> Found:
        return await self.cache.lookup(ACME, chat(text), embedding=near("r", 0.2), task_type=TaskType.OTHER)

    async def believe(self) -> None:
        """After hits by the same words, which make room in the budget for others."""
        for _ in range(100):
            assert (await self.look_up(SAME_WORDS)).outcome.kind is CacheKind.SEMANTIC_HIT
        self.learned.adopt(CREDULOUS)

    async def tell(self, text: str, key: str, evidence: bool | str, name: str = "r") -> Comparison:
        return await self.cache.record_evidence(
            ACME,
            chat(text),
            evidence if isinstance(evidence, bool) else answer(evidence),
            key=key,
            embedding=near(name, 0.2),
            task_type=TaskType.OTHER,
        )

    async def record(self, key: str) -> float:
        (entry,) = await self.store.get_many([key])
        assert entry is not None
        return self.learned.controller.record(group_of(entry))


async def test_a_complaint_about_a_hit_reaches_the_record_of_its_answer() -> None:
    bench = Bench()
    key = await bench.put(STORED, "hold_the_button", near("r", 0.1))
    await bench.believe()
    found = await bench.look_up(PARAPHRASE)
    assert (found.outcome.kind, found.outcome.entry_key) == (CacheKind.SEMANTIC_HIT, key)
    assert await bench.record(key) == 0.0
    await bench.tell(SAME_WORDS, key, True)  # so that the entry outlives the complaint
    assert await bench.tell(PARAPHRASE, key, False) is Comparison.DIFFERENT
    assert await bench.record(key) < 0.0


@pytest.mark.parametrize(("said", "sign"), [("hold_the_button", 1.0), ("see_the_shop", -1.0)])
async def test_an_audit_of_a_hit_reaches_the_record_of_its_answer(said: str, sign: float) -> None:
    bench = Bench(audit_rate=1.0)
    key = await bench.put(STORED, "hold_the_button", near("r", 0.1))
    await bench.believe()
    await bench.tell(SAME_WORDS, key, True)
    while not (found := await bench.look_up(PARAPHRASE)).audit:
        assert found.outcome.kind is CacheKind.SEMANTIC_HIT
    await bench.tell(PARAPHRASE, key, said)
    assert np.sign(await bench.record(key)) == sign


@pytest.mark.parametrize("is_opened", [True, False])
async def test_a_complaint_about_a_hit_of_another_replica_reaches_the_record_of_its_answer(is_opened: bool) -> None:
    bench = Bench()
    key = await bench.put(STORED, "hold_the_button", near("r", 0.1))
    await bench.believe()
    if not is_opened:
        bench.learned.adopt(None)
    await bench.tell(SAME_WORDS, key, True)
    assert await bench.record(key) == 0.0
    assert await bench.tell("resetting a router", key, False) is Comparison.DIFFERENT
    assert await bench.record(key) < 0.0


async def test_what_is_told_of_an_answer_that_would_not_be_proposed_is_not_learned_of_the_one_that_would() -> None:
    bench = Bench()
    key = await bench.put(STORED, "hold_the_button", near("r", 0.1))
    other = await bench.put("How do I open the window?", "pull", near("w", 0.1))
    await bench.believe()
    before = bench.learned.report()
    assert await bench.tell("opening a window", key, False, name="w") is Comparison.DIFFERENT
    after = bench.learned.report()
    assert (after.audited, after.risk.observations) == (before.audited, before.risk.observations)
    assert await bench.record(key) == await bench.record(other) == 0.0
    assert bench.learned.told_elsewhere == 0


async def test_of_hits_that_were_told_of_no_more_than_a_bounded_number_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judged_hits, "JUDGED_MAX", 3)
    bench = Bench()
    key = await bench.put(STORED, "hold_the_button", near("r", 0.1))
    for spaces in range(2, 10):
        text = SAME_WORDS.replace("  ", " " * spaces)
        assert (await bench.look_up(text)).outcome.kind is CacheKind.SEMANTIC_HIT
        assert await bench.tell(text, key, True) is Comparison.SAME
    assert bench.learned.report().audited == 8
    assert len(bench.cache._search._hits._told) == 3
