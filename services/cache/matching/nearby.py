"""Who is near a question, as the index proposes and the store has it now.

Promises: an entry is given only as it was read from the store in this very call, of the asked partition and scope, and
alive. The index and what is remembered of questions only propose; what turns out to be gone is no longer proposed.
What stands elsewhere is not given, and stays proposed there.

Belongs to one event loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.cache.entry import Entry, Question, Scope
from services.cache.entry_group import group_of
from services.cache.index.vector_index import Candidate, Vector, VectorIndex
from services.cache.matching.known_questions import KnownQuestion, KnownQuestions, same_words
from services.cache.matching.neighbourhood import NEAR_MAX, TEMPERATURES, Near, Proposal, propose
from services.cache.store.answer_store import AnswerStore
from services.runtime.clock import Clock
from spillway.routing import TaskType

__all__ = ["Meaning", "Nearby", "NearbyReader"]

SAME_WORDS_LOOKS: Final = 4
"""Nearest questions that may have the very words of the asked one."""

TWIN_SIMILARITY: Final = 0.9
"""From here on a question is likely to have the same words, and is looked at before all others are. Not below
`OUTVOTED` above the similarity that a proposal must have."""

OUTVOTED: Final = TEMPERATURES[1] * math.log(NEAR_MAX)
"""So much farther away than one question, all others together do not outvote it: it is itself near the proposal."""

WHOLE_READS_MAX: Final = 4
"""Unknown entries that are read with their answers, one of which may be served; of more, the questions alone are."""

ATTEMPTS_MAX: Final = 3
"""How often a proposal may turn out to be gone before that is a miss."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """By what a request is found when not by itself."""

    question: str
    partition: str
    model: str
    vector: Vector
    task_type: TaskType


@dataclass(frozen=True, slots=True)
class Nearby:
    """A proposal, and the candidates it comes from. `entry` is its nearest, as the store has it now."""

    candidates: Sequence[Candidate]
    near: Sequence[Near]
    proposal: Proposal
    entry: Entry

    @property
    def similarity(self) -> float:
        """Of the proposal's nearest question."""
        return self.near[self.proposal.row].similarity

    @property
    def aliases(self) -> int:
        """How many stored questions have the proposed answer in all."""
        return self.near[self.proposal.row].aliases

    @property
    def keys(self) -> list[str]:
        """Of the proposal's rows, nearest first."""
        return [self.candidates[row].key for row in self.proposal.rows]


class NearbyReader:
    """`known`: what is remembered of questions. DimensionMismatchError and StoreUnavailableError pass through."""

    def __init__(self, store: AnswerStore, index: VectorIndex, known: KnownQuestions, clock: Clock) -> None:
        self._store = store
        self._index = index
        self.known = known
        self._clock = clock

    def removed(self, key: str) -> None:
        """The entry is gone."""
        self.known.forget(key)
        self._index.remove(key)

    async def candidates(self, meaning: Meaning, *, own_key: str = "") -> Sequence[Candidate]:
        """The nearest questions, but for the entry `own_key`, as the index has them."""
        now = self._clock.unix()
        found = await self._index.search(meaning.partition, meaning.vector, count=NEAR_MAX + 1, now_unix_s=now)
        return [each for each in found if each.key != own_key][:NEAR_MAX] if own_key else found[:NEAR_MAX]

    async def twin(
        self, scope: Scope, meaning: Meaning, candidates: Sequence[Candidate], *, similarity_min: float
    ) -> Entry | None:
        """The stored question that has the words of this one, if it is so near that what else is near changes nothing:
        all that is then read is that question. `same_words` finds the others."""
        enough = max(TWIN_SIMILARITY, similarity_min + OUTVOTED)
        likely = [each.key for each in candidates[:SAME_WORDS_LOOKS] if each.similarity > enough]
        if not likely:
            return None
        fresh: dict[str, Entry] = {}
        unknown = [key for key in likely if self.known.get(key) is None]
        if len(unknown) == 1:
            fresh = {entry.key: entry for entry in await self.read(scope, meaning, unknown) if entry is not None}
        elif unknown:
            await self._without_unread(scope, meaning, (), unknown)
        plain = same_words(meaning.question)
        for key in likely:
            known = self.known.get(key)
            if known is not None and known.plain == plain:
                return fresh[key] if key in fresh else (await self.read(scope, meaning, [key]))[0]
        return None

    async def find(
        self, scope: Scope, meaning: Meaning, candidates: Sequence[Candidate], *, similarity_min: float
    ) -> Nearby | None:
        """What these near questions propose; None when nothing is proposed, or near enough."""
        fresh: dict[str, Entry] = {}
        for _ in range(ATTEMPTS_MAX):
            known = self.known.get_many([each.key for each in candidates])
            if None in known:
                unknown = [each.key for each, found in zip(candidates, known, strict=True) if found is None]
                if len(unknown) <= WHOLE_READS_MAX:
                    candidates = await self._without_gone(scope, meaning, candidates, unknown, fresh)
                else:
                    candidates = await self._without_unread(scope, meaning, candidates, unknown)
                known = self.known.get_many([each.key for each in candidates])
            near = _near(candidates, known)
            proposal = propose(near)
            if proposal is None or near[proposal.row].similarity < similarity_min:
                return None
            key = candidates[proposal.row].key
            left = candidates
            if key not in fresh:
                left = await self._without_gone(scope, meaning, candidates, [key], fresh)
            if key in fresh:
                if group_of(fresh[key]) == proposal.group or self.known.get(key) is None:
                    return Nearby(candidates, near, proposal, fresh[key])
                del fresh[key]  # what was known or read of it is of another answer, and that changes the vote
            candidates = left
        return None

    async def same_words(self, scope: Scope, meaning: Meaning, nearby: Nearby) -> Entry | None:
        """The stored question that has the words of this one."""
        plain = same_words(meaning.question)
        for candidate in nearby.candidates[:SAME_WORDS_LOOKS]:
            known = self.known.get(candidate.key)
            if known is None or known.plain != plain:
                continue
            if candidate.key == nearby.entry.key:
                return nearby.entry
            (entry,) = await self.read(scope, meaning, [candidate.key])
            return entry
        return None

    async def _without_gone(
        self,
        scope: Scope,
        meaning: Meaning,
        candidates: Sequence[Candidate],
        keys: Sequence[str],
        fresh: dict[str, Entry],
    ) -> list[Candidate]:
        """Reads these entries into `fresh`; the candidates without those that may not serve."""
        if not keys:
            return list(candidates)
        entries = await self.read(scope, meaning, keys)
        fresh.update((entry.key, entry) for entry in entries if entry is not None)
        gone = {key for key, entry in zip(keys, entries, strict=True) if entry is None}
        return [candidate for candidate in candidates if candidate.key not in gone]

    async def _without_unread(
        self, scope: Scope, meaning: Meaning, candidates: Sequence[Candidate], keys: Sequence[str]
    ) -> list[Candidate]:
        """Learns what these entries ask; the candidates without those that may not serve."""
        questions = await self._store.get_questions(keys)
        gone = {
            key for key, read in zip(keys, questions, strict=True) if not self._may_serve(scope, meaning, key, read)
        }
        return [candidate for candidate in candidates if candidate.key not in gone]

    async def read(self, scope: Scope, meaning: Meaning, keys: Sequence[str]) -> list[Entry | None]:
        """The entries as the store has them, where they may serve; what is gone is no longer proposed."""
        entries = await self._store.get_many(keys)
        return [
            entry if self._may_serve(scope, meaning, key, entry) else None
            for key, entry in zip(keys, entries, strict=True)
        ]

    def _may_serve(self, scope: Scope, meaning: Meaning, key: str, read: Entry | Question | None) -> bool:
        """Whether what the store has now at this key may; then it is remembered. What nobody finds by meaning any more
        is forgotten; what others do, in a scope or partition that is not the asked one, is neither."""
        if read is None or read.expires_at_unix_s <= self._clock.unix() or read.question == "":
            self.removed(key)
            return False
        if read.scope != scope or read.partition != meaning.partition:
            return False
        self.known.learn(read)
        return True


def _near(candidates: Sequence[Candidate], known: Sequence[KnownQuestion | None]) -> list[Near]:
    sizes: dict[str, int] = {}
    for each in known:
        if each is not None and each.aliases > sizes.get(each.group, 0):
            sizes[each.group] = each.aliases
    return [
        Near(candidate.key, candidate.similarity)
        if each is None  # forgotten meanwhile
        else Near(each.group, candidate.similarity, max(1, sizes.get(each.group, 1)))
        for candidate, each in zip(candidates, known, strict=True)
    ]
