"""Tenants and scopes: whatever is stored and asked, nobody is served another's answer."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.answer_store import MemoryStore
from services.cache.entry import Scope, Selector
from services.runtime.clock import FakeClock
from spillway.routing import TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding

names = st.sampled_from(["", "a", "b", "a:b", "a\0b"])
scopes = st.builds(Scope, names, names, names)
systems = st.sampled_from(["", "Be brief.", "Be long."])
questions = st.sampled_from(["turn on the light", "turn off the light", "turn the light on"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(scopes, systems, questions), max_size=12),
    st.lists(st.tuples(scopes, systems, questions, st.booleans()), min_size=1, max_size=12),
    names,
)
def test_every_hit_was_stored_under_the_very_same_scope_and_context(
    stored: list[tuple[Scope, str, str]], asked: list[tuple[Scope, str, str, bool]], removed_tenant: str
) -> None:
    async def run() -> None:
        clock = FakeClock()
        cache = cache_over(MemoryStore(entries_max=100, clock=clock), clock)
        await cache.start()
        same_vector = embedding("one vector for all questions: the worst embedder there is")
        for scope, system, question in stored:
            label = answer(f"{scope!r} {system} {question}")
            await cache.store(
                scope, chat(question, system=system), label, embedding=same_vector, task_type=TaskType.OTHER
            )
        await cache.invalidate(Selector(tenant=removed_tenant), dry_run=False)
        for scope, system, question, skip_exact in asked:
            found = await cache.lookup(
                scope,
                chat(question, system=system),
                embedding=same_vector,
                task_type=TaskType.OTHER,
                skip_exact=skip_exact,
            )
            if found.answer is None:
                assert scope.tenant == removed_tenant or (scope, system, question) not in stored
            else:
                text = found.answer.message.text
                assert text.startswith(f"{scope!r} {system} turn ")
                assert (" off " in text) == (" off " in question)
                assert scope.tenant != removed_tenant
        await cache.close()

    asyncio.run(run())
