"""What the cache learns from answers, audits and verdicts, through the use case, over a small world of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog

from services.cache.entry import Scope
from services.cache.entry_group import group_of
from services.cache.index.vector_index import Vector
from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.partition_classes import OWN_MAX
from services.cache.matching.proposal_guard import ALIASES_KNOWN, LIFTABLE
from services.cache.matching.risk_control import RiskPolicy
from services.cache.matching.risk_model import LOG_ODDS, RiskModel
from services.cache.partition import entry_key
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import Embedding
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import MODEL, answer, cache_over, chat, policy, vector
from tests.support.cache_world import World

ACME = Scope("acme")
RISK = RiskPolicy(max_wrong_rate=0.02, audit_rate=0.2)

CREDULOUS = RiskModel(
    mean=np.zeros(len(NAMES)),
    scale=np.ones(len(NAMES)),
    weights=np.asarray([*(0.0 for _ in NAMES), 9.0]),
    recalibrated=(1.0 / (1.0 + np.exp(LOG_ODDS))).tolist(),
)
"""Takes everything for right."""


class Bench:
    """A cache whose store can be looked into."""

    def __init__(
        self, *, directory: Path | None = None, embedder: Embedder | None = None, store: type[MemoryStore] = MemoryStore
    ) -> None:
        self.clock = FakeClock()
        self.store = store(entries_max=10_000, clock=self.clock)
        self.cache = cache_over(self.store, self.clock, risk=RISK, directory=directory, embedder=embedder)


class Reluctant(MemoryStore):
    """Away at the first deletion."""

    was_away = False

    async def delete(self, keys: Sequence[str]) -> int:
        if not self.was_away:
            self.was_away = True
            raise StoreUnavailableError("away")
        return await super().delete(keys)


class Embedder:
    """Vectors by the first word of each text; `away` answers nothing."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.calls: list[Sequence[str]] = []

    async def embed(self, texts: Sequence[str]) -> list[Vector] | None:
        self.calls.append(texts)
        return None if self.away else [vector(text.split()[0]) for text in texts]


def near(name: str, distance: float = 0.1) -> Embedding:
    """A vector near that of the name, another for each distance."""
    values = vector(name, 64) + distance * vector(f"{name}{distance}", 64)
    return Embedding(values.astype("<f4").tobytes(), MODEL)


async def put(cache: SemanticCache, text: str, said: str, at: Embedding, scope: Scope = ACME) -> str:
    stored = await cache.store(scope, chat(text), answer(said), embedding=at, task_type=TaskType.OTHER)
    return stored.entry_key


async def test_nothing_but_the_same_words_is_served_before_there_is_evidence() -> None:
    world = World(Bench().cache, 1)
    told = await world.ask(140)
    assert told.hits == 0


async def test_hits_begin_with_evidence_and_wrong_ones_stay_below_the_limit() -> None:
    bench = Bench()
    told = await World(bench.cache, 2).ask(500)
    assert told.hits > 200
    assert told.audits > 10
    assert told.worst <= RISK.max_wrong_rate
    (report,) = bench.cache.wrong_rates()
    assert (report.name, report.lookups, report.hits) == ("other/acme", told.lookups, told.hits)
    assert report.audited == told.audits
    assert report.risk.wrong_rate_low <= told.wrong / told.lookups <= report.risk.wrong_rate_high
    assert report.comparisons[Comparison.SAME] > 100
    assert report.comparisons[Comparison.DIFFERENT] > 10


async def test_when_all_answers_turn_wrong_audits_close_the_door_and_right_evidence_opens_it_again() -> None:
    bench = Bench()
    world = World(bench.cache, 1)
    await world.ask(320)
    world.version = 1  # from now on everything that is stored is wrong
    while (report := bench.cache.wrong_rates()[0]).risk.tightening <= 1.0:
        assert report.lookups < 1_500
        await world.ask(20)
    assert report.wrong > 0
    hits = world.told.hits
    while (await world.ask(40)).hits > hits:  # until nothing is served
        hits = world.told.hits
        assert world.told.lookups < 2_000
    while world.told.hits <= hits + 40:  # what is right by now is in the cache
        assert world.told.lookups < 4_000
        await world.ask(40)


async def test_another_tenant_profits_from_nothing() -> None:
    bench = Bench()
    await World(bench.cache, 3).ask(320)
    other = await World(bench.cache, 3, scope=Scope("other")).ask(100)
    assert other.hits == 0
    assert [report.name for report in bench.cache.wrong_rates()] == ["other/acme", "other/other"]


async def test_where_tenants_share_a_class_none_is_served_by_what_another_taught_it() -> None:
    bench = Bench()
    for index in range(OWN_MAX):
        await World(bench.cache, index, scope=Scope(f"passer-by {index}")).ask()
    assert (await World(bench.cache, 3).ask(320)).hits > 50
    late = World(bench.cache, 3, scope=Scope("other"))
    assert (await late.ask(100)).hits == 0
    assert bench.cache.wrong_rates()[-1].name == "other"
    assert (await late.ask(220)).hits > 50


async def test_what_was_learned_survives_a_restart(tmp_path: Path) -> None:
    first = Bench(directory=tmp_path)
    await first.cache.start()
    world = World(first.cache, 4)
    await world.ask(320)
    await first.cache.close()
    again = Bench(directory=tmp_path)
    await again.cache.start()
    report, before = again.cache.wrong_rates()[0], first.cache.wrong_rates()[0]
    assert report.risk.observations == before.risk.observations
    assert report.risk.opened
    told = await World(again.cache, 5).ask(200)
    assert told.hits > 50
    await again.cache.close()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b'["other", "acme"]\nno state', b'["other", 7]\n', b'["nothing", ""]\nx']
)
async def test_a_damaged_state_is_left_out_and_logged(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "x.risk").write_bytes(damage)
    bench = Bench(directory=tmp_path)
    with structlog.testing.capture_logs() as logs:
        await bench.cache.start()
    assert bench.cache.wrong_rates() == []
    assert "cache_risk_state_left_out" in [log["event"] for log in logs]
    await bench.cache.close()


async def test_a_fresh_answer_that_says_the_same_joins_the_group_of_the_one_near_it() -> None:
    bench = Bench()
    first = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    second = await put(bench.cache, "how can the router be reset", "Hold_the_button.", near("r", 0.2))
    third = await put(bench.cache, "resetting a router", "hold_the_button", near("r", 0.3))
    other = await put(bench.cache, "How do I sell my router?", "see_the_shop", near("r", 0.4))
    entries = [entry for entry in await bench.store.get_many([first, second, third, other]) if entry]
    groups = [group_of(entry) for entry in entries]
    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert [entry.aliases for entry in entries] == [1, 2, 3, 1]


async def test_an_answer_that_is_stored_again_is_no_evidence_of_itself() -> None:
    bench = Bench()
    groups = set()
    for _ in range(2):
        key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
        (entry,) = await bench.store.get_many([key])
        assert entry is not None
        assert entry.aliases == 1
        groups.add(group_of(entry))
    assert len(groups) == 1
    assert bench.cache.wrong_rates() == []


async def test_an_answer_that_many_questions_have_joins_nothing() -> None:
    bench = Bench()
    first = await put(bench.cache, "Is Paris in France?", "Yes.", near("r", 0.1))
    second = await put(bench.cache, "Is Rome in Italy?", "yes", near("r", 0.2))
    entries = [entry for entry in await bench.store.get_many([first, second]) if entry]
    assert [entry.aliases for entry in entries] == [1, 1]
    assert group_of(entries[0]) != group_of(entries[1])


async def test_prose_is_compared_by_its_embedding_and_unknown_without_one() -> None:
    texts = (
        "Press and hold the button at the back until the light blinks.",
        "Press the rear button a while until it blinks.",
    )
    for embedder, expected in ((Embedder(), Comparison.SAME), (Embedder(away=True), Comparison.UNKNOWN)):
        bench = Bench(embedder=embedder)
        first = await put(bench.cache, "How do I reset my router?", texts[0], near("r", 0.1))
        second = await put(bench.cache, "how can the router be reset", texts[1], near("r", 0.2))
        groups = {group_of(entry) for entry in await bench.store.get_many([first, second]) if entry}
        assert len(groups) == (1 if expected is Comparison.SAME else 2)
        assert bench.cache.wrong_rates()[0].comparisons[expected] == 1
        assert len(embedder.calls) == 1


async def evidence(bench: Bench, key: str, what: bool | str, text: str = "how can the router be reset") -> Comparison:
    return await bench.cache.record_evidence(
        ACME,
        chat(text),
        what if isinstance(what, bool) else answer(what),
        key=key,
        embedding=near("r", 0.2),
        task_type=TaskType.OTHER,
    )


async def kind(bench: Bench, text: str) -> CacheKind:
    found = await bench.cache.lookup(ACME, chat(text), embedding=near("r", 0.2), task_type=TaskType.OTHER)
    return found.outcome.kind


async def test_a_fresh_answer_of_an_audit_is_kept_for_its_own_request() -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    assert await evidence(bench, key, "hold_the_button") is Comparison.SAME
    assert await kind(bench, "how can the router be reset") is CacheKind.EXACT_HIT
    assert await evidence(bench, key, "unplug_it", text="reset the router how") is Comparison.DIFFERENT
    found = await bench.cache.lookup(ACME, chat("reset the router how"))
    assert found.answer == answer("unplug_it")


@pytest.mark.parametrize(
    ("text", "said", "linked"),
    [
        ("how can the router be reset", "hold_the_button", True),
        ("how can the router be reset", "Yes.", False),
        ("how do I reset my router", "Yes.", True),
    ],
)
async def test_an_answer_that_many_questions_have_joins_nothing_where_it_is_evidence(
    text: str, said: str, linked: bool
) -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", said, near("r", 0.1))
    assert await evidence(bench, key, said, text=text) is Comparison.SAME
    one, other = await bench.store.get_many([key, entry_key(ACME, chat(text))])
    assert one is not None
    assert other is not None
    assert (group_of(one) == group_of(other), other.aliases) == (linked, 1 + linked)


async def test_an_entry_that_was_oftener_wrong_than_right_for_those_it_served_is_forgotten() -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    served = "how do I  reset my router"
    for is_right in (True, False, False):
        assert await kind(bench, served) is CacheKind.SEMANTIC_HIT
        await evidence(bench, key, is_right, text=served)
    assert await kind(bench, served) is CacheKind.MISS
    assert await bench.store.get_many([key]) == [None]


async def test_what_a_store_that_was_away_could_not_forget_is_forgotten_when_it_is_told_again() -> None:
    bench = Bench(store=Reluctant)
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    served = "how do I  reset my router"
    assert await kind(bench, served) is CacheKind.SEMANTIC_HIT
    assert await evidence(bench, key, False, text=served) is Comparison.UNKNOWN
    (stored,) = await bench.store.get_many([key])
    assert await evidence(bench, key, False, text=served) is Comparison.DIFFERENT
    assert await bench.store.get_many([key]) == [None]
    assert bench.cache.wrong_rates()[0].wrong == 1
    assert stored is not None
    await bench.store.put(stored)  # as another replica may
    assert await evidence(bench, key, False, text=served) is Comparison.DIFFERENT
    assert await bench.store.get_many([key]) == [stored]
    again = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    assert await evidence(bench, again, True, text=served) is Comparison.SAME
    assert await bench.store.get_many([again]) != [None]


async def test_verdicts_on_what_was_never_served_or_told_before_forget_nothing() -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    for _ in range(3):
        assert await evidence(bench, key, False) is Comparison.DIFFERENT
    served = "how do I  reset my router"
    assert await kind(bench, served) is CacheKind.SEMANTIC_HIT
    for is_right in (True, False, False, False):
        await evidence(bench, key, is_right, text=served)
    assert await kind(bench, served) is CacheKind.SEMANTIC_HIT


async def test_evidence_on_what_could_not_have_been_served_teaches_nothing() -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1), Scope("other"))
    assert await evidence(bench, key, False) is Comparison.UNKNOWN
    assert await evidence(bench, "no such key", False) is Comparison.UNKNOWN
    assert await bench.store.get_many([key]) != [None]
    assert bench.cache.wrong_rates() == []


@pytest.mark.parametrize(("scope", "system"), [(ACME, "another prompt"), (Scope("other"), "")])
async def test_evidence_of_elsewhere_leaves_an_entry_to_those_it_serves(scope: Scope, system: str) -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    asked = chat("how do I reset my router", system=system)
    told = await bench.cache.record_evidence(
        scope, asked, False, key=key, embedding=near("r", 0.2), task_type=TaskType.OTHER
    )
    assert told is Comparison.UNKNOWN
    assert await kind(bench, "how do I reset my router") is CacheKind.SEMANTIC_HIT


async def test_an_answer_that_is_no_good_is_no_evidence() -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    verdict = await bench.cache.record_evidence(
        ACME,
        chat("how can the router be reset"),
        replace(answer("unplug_it"), accepted=False),
        key=key,
        embedding=near("r", 0.2),
        task_type=TaskType.OTHER,
    )
    assert verdict is Comparison.UNKNOWN
    assert await kind(bench, "how can the router be reset") is CacheKind.MISS


async def test_on_never_answers_off_however_much_was_learned() -> None:
    bench = Bench()
    world = World(bench.cache, 6)
    await world.ask(320)
    (learned,) = bench.cache._search.classes.all()
    learned.adopt(CREDULOUS)
    await put(bench.cache, "How do I turn on the heater?", "press_on", near("heater", 0.1))
    on = await world.look_up("how can I turn on the heater", near("heater", 0.2))
    off = await world.look_up("How do I turn off the heater?", near("heater", 0.1))
    assert on.outcome.kind is CacheKind.SEMANTIC_HIT
    assert off.outcome.kind is CacheKind.MISS
    assert off.outcome.reason.startswith("opposites")


async def test_a_limit_of_nothing_finds_exactly_alone() -> None:
    bench = Bench()
    cache = cache_over(bench.store, bench.clock, rules=replace(policy(), semantic_task_types=frozenset()))
    await put(cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    found = await cache.lookup(
        ACME, chat("how do I  reset my router"), embedding=near("r", 0.1), task_type=TaskType.OTHER
    )
    assert found.outcome.kind is CacheKind.MISS


async def test_evidence_on_a_question_that_is_never_cached_stores_nothing() -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    personal = "how can my order 123 be reset, write to me@example.com"
    assert await evidence(bench, key, "hold_the_button", text=personal) is Comparison.UNKNOWN
    assert len(bench.store) == 1


async def test_hits_by_the_same_words_are_counted_booked_and_audited() -> None:
    bench = Bench()
    await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    audits = 0
    for _ in range(100):
        found = await bench.cache.lookup(
            ACME, chat("how do I  reset my router"), embedding=near("r", 0.2), task_type=TaskType.OTHER
        )
        assert found.outcome.reason == "the same words"
        audits += found.audit
    assert audits > 10
    (report,) = bench.cache.wrong_rates()
    assert report.hits == 100
    assert report.risk.hits == pytest.approx(100, rel=0.01)
    assert report.risk.booked_rate > 0.0


async def test_what_was_never_served_tells_nothing_and_what_was_tells_it_once() -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    for index in range(50):
        await evidence(bench, key, True, text=f"how can router {index} be reset")
        await evidence(bench, key, True)
    assert sum(report.audited + report.risk.observations for report in bench.cache.wrong_rates()) == 0
    assert await kind(bench, "how do I  reset my router") is CacheKind.SEMANTIC_HIT
    for _ in range(50):
        await evidence(bench, key, True, text="how do I  reset my router")
    (report,) = bench.cache.wrong_rates()
    assert (report.audited, report.wrong, report.risk.observations) == (1, 0, 1)
    assert report.risk.wrong_rate_high <= 1.0


@pytest.mark.parametrize("audit", [True, False])
async def test_another_answer_to_a_hit_that_was_not_drawn_is_no_audit(audit: bool) -> None:
    bench = Bench()
    key = await put(bench.cache, "How do I reset my router?", "hold_the_button", near("r", 0.1))
    served = "how do I  reset my router"
    for _ in range(100):
        found = await bench.cache.lookup(ACME, chat(served), embedding=near("r", 0.2), task_type=TaskType.OTHER)
        assert found.outcome.kind is CacheKind.SEMANTIC_HIT
        if found.audit is audit:
            break
    assert await evidence(bench, key, "hold_the_button", text=served) is Comparison.SAME
    (report,) = bench.cache.wrong_rates()
    assert report.risk.observations == 1
    assert (report.risk.audits > 0.0) is audit


async def test_an_audit_that_reaches_another_replica_is_judged_with_its_guard() -> None:
    bench = Bench()
    await World(bench.cache, 6).ask(320)
    (learned,) = bench.cache._search.classes.all()
    learned.adopt(CREDULOUS)
    keys = [
        await put(bench.cache, text, "write_to_us", near("refund", distance))
        for text, distance in (
            ("how do I get a refund", 0.1),
            ("how is money returned", 0.11),
            ("how does a reimbursement work", 0.12),
            ("how do I obtain a rebate", 0.13),
            ("how are payments reversed", 0.14),
            *((f"how do I get a refund{' now' * more}", 0.2 + 0.01 * more) for more in range(1, ALIASES_KNOWN)),
        )
    ]
    before = learned.controller.guards.counts.copy()
    asked = "how do buyers reclaim costs"
    verdict = await bench.cache.record_evidence(
        ACME, chat(asked), False, key=keys[0], embedding=near("refund", 0.1), task_type=TaskType.OTHER
    )
    assert verdict is Comparison.DIFFERENT
    more = learned.controller.guards.counts - before
    assert more[LIFTABLE.index("wording")][:2].tolist() == pytest.approx([1.0, 1.0])
