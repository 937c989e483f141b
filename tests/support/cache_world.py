"""A small world of questions for tests of learning: each topic has one right answer, and many wordings."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from services.cache.entry import Scope
from services.cache.outcomes import Found
from services.cache.semantic_cache import SemanticCache
from spillway.chat import Embedding
from spillway.routing import TaskType
from tests.support.cache_parts import MODEL, answer, chat

__all__ = ["Told", "World"]

DIMENSIONS = 64
OPENINGS = ("How do I", "how can I", "What is the way to", "Please explain how to", "In what way do I", "how should I")
CLOSINGS = ("", " please", " quickly", " at home", " now", " by myself", " as a beginner", " properly", " safely")
VERBS = ("clean", "repair", "choose", "store", "paint", "carry")
NOUNS = ("kettle", "bicycle", "curtain", "lantern", "violin", "carpet", "ladder")


@dataclass(slots=True)
class Told:
    """What became of a run of questions."""

    lookups: int = 0
    hits: int = 0
    wrong: int = 0
    audits: int = 0
    first_hit: int = 0
    worst: float = 0.0


class World:
    """Seeded. `noise` is how far questions of one topic lie apart. Another `version`, and all right answers are other
    ones: what is stored by then is wrong."""

    def __init__(self, cache: SemanticCache, seed: int, *, noise: float = 0.35, scope: Scope | None = None) -> None:
        self._cache = cache
        self._random = Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._scope = scope or Scope("acme")
        self._noise = noise
        self._verbs = self._numbers.standard_normal((len(VERBS), DIMENSIONS))
        self._nouns = self._numbers.standard_normal((len(NOUNS), DIMENSIONS))
        self._asked: set[str] = set()
        self.version = 0
        self.told = Told()

    def question(self) -> tuple[str, Embedding, str]:
        """A question not asked before, its embedding, and its right answer."""
        while True:
            verb, noun = self._random.randrange(len(VERBS)), self._random.randrange(len(NOUNS))
            text = f"{self._random.choice(OPENINGS)} {VERBS[verb]} the {NOUNS[noun]}{self._random.choice(CLOSINGS)}"
            if text not in self._asked:
                break
        self._asked.add(text)
        values = self._verbs[verb] + self._nouns[noun] + self._noise * self._numbers.standard_normal(DIMENSIONS)
        return text, Embedding(values.astype("<f4").tobytes(), MODEL), f"{VERBS[verb]}_{NOUNS[noun]}_{self.version}"

    async def ask(self, count: int = 1) -> Told:
        """Asks, as the orchestrator does: a miss is answered and stored, an audited hit is answered as well."""
        for _ in range(count):
            text, vector, right = self.question()
            found = await self.look_up(text, vector)
            self.told.lookups += 1
            if found.answer is None:
                await self._cache.store(
                    self._scope, chat(text), answer(right), embedding=vector, task_type=TaskType.OTHER
                )
            else:
                self.told.first_hit = self.told.first_hit or self.told.lookups
                self.told.hits += 1
                self.told.wrong += found.answer.message.text != right
                if found.audit:
                    self.told.audits += 1
                    await self._cache.record_evidence(
                        self._scope,
                        chat(text),
                        answer(right),
                        key=found.outcome.entry_key,
                        embedding=vector,
                        task_type=TaskType.OTHER,
                    )
            if self.told.lookups >= 300:
                self.told.worst = max(self.told.worst, self.told.wrong / self.told.lookups)
        return self.told

    async def look_up(self, text: str, vector: Embedding) -> Found:
        """By meaning alone."""
        return await self._cache.lookup(
            self._scope, chat(text), embedding=vector, task_type=TaskType.OTHER, skip_exact=True
        )
