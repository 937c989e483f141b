"""A fresh answer that was evidence is kept as its own request's, not as that of the question it was held against."""

from __future__ import annotations

import pytest

from services.cache.entry import Scope, Selector
from services.cache.matching.answer_comparison import Comparison
from services.cache.partition import entry_key
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import AnswerStore
from services.runtime.clock import SystemClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding

ACME = Scope("acme")
STORED, ASKED = "How do I reset my password?", chat("how do I reset my password")
SAID = {Comparison.SAME: "hold_the_button", Comparison.DIFFERENT: "unplug_it"}
KEY = entry_key(ACME, ASKED)


async def told(cache: SemanticCache, verdict: Comparison, *, ttl_s: float | None = None, token: str = "") -> None:
    """A model says this to ASKED, which has the tag "doc-B"; what is stored has "doc-A" and lives for 1,000 s."""
    stored = await cache.store(
        ACME,
        chat(STORED),
        answer("hold_the_button"),
        embedding=embedding(),
        task_type=TaskType.OTHER,
        tags=("doc-A",),
        ttl_s=1_000.0,
    )
    said = await cache.record_evidence(
        ACME,
        ASKED,
        answer(SAID[verdict]),
        key=stored.entry_key,
        embedding=embedding(),
        task_type=TaskType.OTHER,
        tags=("doc-B",),
        ttl_s=ttl_s,
        token=token,
    )
    assert said is verdict


@pytest.mark.parametrize(
    ("verdict", "ttl_s", "lives_s"),
    [
        (Comparison.DIFFERENT, 500.0, 500.0),
        (Comparison.DIFFERENT, 5_000.0, 5_000.0),
        (Comparison.DIFFERENT, None, 3_600.0),
        (Comparison.SAME, 500.0, 500.0),
        (Comparison.SAME, 5_000.0, 1_000.0),
        (Comparison.SAME, None, 1_000.0),
    ],
)
async def test_it_has_its_own_tags_and_lifetime_and_a_shorter_one_of_what_it_agrees_with(
    store: AnswerStore, verdict: Comparison, ttl_s: float | None, lives_s: float
) -> None:
    cache = cache_over(store, SystemClock())
    await told(cache, verdict, ttl_s=ttl_s)
    (kept,) = await store.get_many([KEY])
    assert kept is not None
    assert (kept.tags, kept.answer) == (("doc-B",), answer(SAID[verdict]))
    assert kept.expires_at_unix_s - kept.stored_at_unix_s == pytest.approx(lives_s)


@pytest.mark.parametrize("verdict", SAID)
async def test_it_goes_with_what_its_own_request_named(store: AnswerStore, verdict: Comparison) -> None:
    cache = cache_over(store, SystemClock())
    await told(cache, verdict)
    assert await cache.invalidate(Selector(tenant="acme", tag="doc-B"), dry_run=False) == 1
    assert (await cache.lookup(ACME, ASKED)).outcome.kind is CacheKind.MISS


@pytest.mark.parametrize("verdict", SAID)
async def test_it_is_not_kept_when_that_was_invalidated_since_its_model_was_asked(
    store: AnswerStore, verdict: Comparison
) -> None:
    cache = cache_over(store, SystemClock())
    token = (await cache.lookup(ACME, ASKED)).store_token
    await cache.invalidate(Selector(tenant="acme", tag="doc-B"), dry_run=False)
    await told(cache, verdict, token=token)
    assert (await cache.lookup(ACME, ASKED)).outcome.kind is CacheKind.MISS
    assert cache.stats().overtaken == 1


@pytest.mark.parametrize("verdict", SAID)
async def test_an_invalidation_of_what_it_was_held_against_alone_takes_nothing_of_it(
    store: AnswerStore, verdict: Comparison
) -> None:
    cache = cache_over(store, SystemClock())
    token = (await cache.lookup(ACME, ASKED)).store_token
    await cache.invalidate(Selector(tenant="acme", tag="doc-A"), dry_run=False)
    await told(cache, verdict, token=token)
    assert (await cache.lookup(ACME, ASKED)).outcome.kind is CacheKind.EXACT_HIT
