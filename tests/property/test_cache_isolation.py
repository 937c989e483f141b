"""No answer crosses a tenant, a namespace or a version, whatever the names: through the cache itself."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import pytest

from services.cache.entry import Scope
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import (
    ChatRequest,
    FormatKind,
    GenerationParams,
    Message,
    ResponseFormat,
    Role,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
)
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import MODEL, answer, cache_over, chat, embedding

PAIRS = 1_000
SEED = 20_261_124
LETTERS = "ab\0|:,;/ \n{}é漢😀"
QUESTION, PARAPHRASE = "How do I turn on the heater?", "how do I turn on  the heater"


def name(chance: random.Random) -> str:
    return "".join(chance.choice(LETTERS) for _ in range(chance.randint(0, 4)))


def pairs() -> list[tuple[Scope, Scope]]:
    """Different scopes that look alike: a name moved, cut, joined to its neighbour, or taken from the other."""
    chance = random.Random(SEED)
    found: list[tuple[Scope, Scope]] = []
    while len(found) < PAIRS:
        one = Scope(name(chance), name(chance), name(chance), name(chance))
        values = [getattr(one, field.name) for field in fields(one)]
        match chance.randrange(4):
            case 0:
                values = values[1:] + values[:1]
            case 1:
                values[0], values[1] = values[0] + values[1], ""
            case 2:
                values[0] = values[0] + chance.choice(LETTERS)
            case _:
                values[0] = name(chance)
        other = Scope(*values)
        if one.tenant != other.tenant:
            found.append((one, other))
    return found


async def test_of_a_thousand_pairs_of_tenants_none_sees_the_other() -> None:
    chance = random.Random(SEED)
    for one, other in pairs():
        cache = cache_over(MemoryStore(entries_max=10, clock=FakeClock()), FakeClock())
        text = answer(f"for {chance.random()}")
        await cache.store(one, chat(QUESTION), text, embedding=embedding(), task_type=TaskType.OTHER)
        for asked, expected in ((QUESTION, CacheKind.EXACT_HIT), (PARAPHRASE, CacheKind.SEMANTIC_HIT)):
            own = await cache.lookup(one, chat(asked), embedding=embedding(), task_type=TaskType.OTHER)
            assert own.outcome.kind is expected, one
            theirs = await cache.lookup(other, chat(asked), embedding=embedding(), task_type=TaskType.OTHER)
            assert theirs.outcome.kind is CacheKind.MISS, (one, other)


FULL = ChatRequest(
    (
        Message.of(Role.SYSTEM, "Be brief."),
        Message.of(Role.USER, "Hello"),
        Message.of(Role.ASSISTANT, "Hello."),
        Message.of(Role.USER, QUESTION),
    ),
    GenerationParams(0.5, 0.25, 10, ("stop",), 7, 0.125, 0.75),
    (ToolDefinition("tool", "does", "{}", False),),
    ToolChoice(ToolChoiceMode.NAMED, "tool"),
    ResponseFormat(FormatKind.JSON_SCHEMA, "{}", "form", False),
)
SCOPE = Scope("tenant", "namespace", "1", "2026-11")

OTHERS: dict[str, tuple[Scope, ChatRequest, str]] = {
    **{field.name: (replace(SCOPE, **{field.name: "x"}), FULL, MODEL) for field in fields(Scope)},
    "system prompt": (
        SCOPE,
        replace(FULL, messages=(Message.of(Role.SYSTEM, "Be kind."), *FULL.messages[1:])),
        MODEL,
    ),
    "history": (
        SCOPE,
        replace(FULL, messages=(*FULL.messages[:2], Message.of(Role.ASSISTANT, "Hi."), FULL.messages[3])),
        MODEL,
    ),
    "no history": (SCOPE, replace(FULL, messages=(FULL.messages[0], FULL.messages[3])), MODEL),
    "temperature": (SCOPE, replace(FULL, generation=replace(FULL.generation, temperature=0.6)), MODEL),
    "top_p": (SCOPE, replace(FULL, generation=replace(FULL.generation, top_p=0.5)), MODEL),
    "max_output_tokens": (SCOPE, replace(FULL, generation=replace(FULL.generation, max_output_tokens=11)), MODEL),
    "stop": (SCOPE, replace(FULL, generation=replace(FULL.generation, stop=("halt",))), MODEL),
    "seed": (SCOPE, replace(FULL, generation=replace(FULL.generation, seed=8)), MODEL),
    "presence": (SCOPE, replace(FULL, generation=replace(FULL.generation, presence_penalty=0.2)), MODEL),
    "frequency": (SCOPE, replace(FULL, generation=replace(FULL.generation, frequency_penalty=0.2)), MODEL),
    "tools": (SCOPE, replace(FULL, tools=()), MODEL),
    "tool choice": (SCOPE, replace(FULL, tool_choice=None), MODEL),
    "schema": (SCOPE, replace(FULL, response_format=replace(FULL.response_format, schema_json="[]")), MODEL),  # type: ignore[type-var]
    "embedding model": (SCOPE, FULL, "another/1"),
}


def reworded(asked: ChatRequest) -> ChatRequest:
    return replace(asked, messages=(*asked.messages[:-1], Message.of(Role.USER, PARAPHRASE)))


@pytest.mark.parametrize("field", OTHERS)
async def test_whatever_changes_the_answer_keeps_it_from_being_found(field: str) -> None:
    cache = cache_over(MemoryStore(entries_max=10, clock=FakeClock()), FakeClock())
    await cache.store(SCOPE, FULL, answer(), embedding=embedding(), task_type=TaskType.OTHER)
    own = await cache.lookup(SCOPE, reworded(FULL), embedding=embedding(), task_type=TaskType.OTHER)
    assert own.outcome.kind is CacheKind.SEMANTIC_HIT
    scope, asked, model = OTHERS[field]
    found = await cache.lookup(scope, reworded(asked), embedding=embedding(model=model), task_type=TaskType.OTHER)
    assert found.outcome.kind is CacheKind.MISS
    if asked != FULL or scope != SCOPE:
        exact = await cache.lookup(scope, asked)
        assert exact.outcome.kind is CacheKind.MISS
