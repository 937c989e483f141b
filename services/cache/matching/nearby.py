"""Who is near a question, as the index proposes and the store has it now.

Promises: an entry is given only as it was read from the store in this very call, of the asked partition and scope, and
alive. The index and what is remembered of questions only propose; what turns out to be gone is no longer proposed.
What stands elsewhere is not given, and stays proposed there.

Belongs to one event loop.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from services.cache.entry import Entry, Question, Scope
from services.cache.entry_group import group_of
from services.cache.index.candidates import Candidates
from services.cache.index.vector_index import Vector, VectorIndex
from services.cache.matching.known_questions import KnownQuestion, KnownQuestions
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

    candidates: Candidates
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
        keys = self.candidates.keys
        return [keys[row] for row in self.proposal.rows]


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

    async def candidates(self, meaning: Meaning, *, own_key: str = "") -> Candidates:
        """The nearest questions, but for the entry `own_key`, as the index has them."""
        now = self._clock.unix()
        found = await self._index.search(meaning.partition, meaning.vector, count=NEAR_MAX + 1, now_unix_s=now)
        if own_key:
            found = found.without((own_key,))
        return found[:NEAR_MAX] if len(found) > NEAR_MAX else found

    async def twin(
        self, scope: Scope, meaning: Meaning, candidates: Candidates, *, similarity_min: float
    ) -> Entry | None:
        """The stored question that has the words of this one, if it is so near that what else is near changes nothing:
        all that is then read is that question. `same_words` finds the others."""
        enough = max(TWIN_SIMILARITY, similarity_min + OUTVOTED)
        nearest = zip(candidates.keys[:SAME_WORDS_LOOKS], candidates.similarities, strict=False)
        likely = [key for key, similarity in nearest if similarity > enough]
        if not likely:
            return None
        fresh: dict[str, Entry] = {}
        unknown = [key for key in likely if self.known.get(key) is None]
        if len(unknown) == 1:
            fresh = {entry.key: entry for entry in await self.read(scope, meaning, unknown) if entry is not None}
        elif unknown:
            await self._gone_unread(scope, meaning, unknown)
        for key in likely:
            known = self.known.get(key)
            if known is not None and known.has_words_of(meaning.question):
                return fresh[key] if key in fresh else (await self.read(scope, meaning, [key]))[0]
        return None

    async def find(
        self, scope: Scope, meaning: Meaning, candidates: Candidates, *, similarity_min: float
    ) -> Nearby | None:
        """What these near questions propose; None when nothing is proposed, or near enough."""
        fresh: dict[str, Entry] = {}
        for _ in range(ATTEMPTS_MAX):
            known = self.known.get_many(candidates.keys)
            if None in known:
                unknown = [key for key, found in zip(candidates.keys, known, strict=True) if found is None]
                if len(unknown) <= WHOLE_READS_MAX:
                    gone = await self._gone(scope, meaning, unknown, fresh)
                else:
                    gone = await self._gone_unread(scope, meaning, unknown)
                candidates = candidates.without(gone) if gone else candidates
                known = self.known.get_many(candidates.keys)
            near = _near(candidates, known)
            proposal = propose(near)
            if proposal is None or near[proposal.row].similarity < similarity_min:
                return None
            key = candidates.keys[proposal.row]
            left = candidates
            if key not in fresh:
                left = candidates.without(await self._gone(scope, meaning, [key], fresh))
            if key in fresh:
                if group_of(fresh[key]) == proposal.group or self.known.get(key) is None:
                    return Nearby(candidates, near, proposal, fresh[key])
                del fresh[key]  # what was known or read of it is of another answer, and that changes the vote
            candidates = left
        return None

    async def same_words(self, scope: Scope, meaning: Meaning, nearby: Nearby) -> Entry | None:
        """The stored question that has the words of this one."""
        for key in nearby.candidates.keys[:SAME_WORDS_LOOKS]:
            known = self.known.get(key)
            if known is None or not known.has_words_of(meaning.question):
                continue
            if key == nearby.entry.key:
                return nearby.entry
            (entry,) = await self.read(scope, meaning, [key])
            return entry
        return None

    async def _gone(
        self, scope: Scope, meaning: Meaning, keys: Sequence[str], fresh: dict[str, Entry]
    ) -> Collection[str]:
        """Reads these entries into `fresh`; those that may not serve."""
        entries = await self.read(scope, meaning, keys)
        fresh.update((entry.key, entry) for entry in entries if entry is not None)
        return {key for key, entry in zip(keys, entries, strict=True) if entry is None}

    async def _gone_unread(self, scope: Scope, meaning: Meaning, keys: Sequence[str]) -> Collection[str]:
        """Learns what these entries ask; those that may not serve."""
        return self._unfit(scope, meaning, keys, await self._store.get_questions(keys))

    async def read(self, scope: Scope, meaning: Meaning, keys: Sequence[str]) -> list[Entry | None]:
        """The entries as the store has them, where they may serve; what is gone is no longer proposed."""
        entries = await self._store.get_many(keys)
        unfit = self._unfit(scope, meaning, keys, entries)
        return [None if key in unfit else entry for key, entry in zip(keys, entries, strict=True)] if unfit else entries

    def _unfit(
        self, scope: Scope, meaning: Meaning, keys: Sequence[str], read: Sequence[Entry | Question | None]
    ) -> set[str]:
        """Those of which what the store has now may not serve; the others are remembered. What nobody finds by meaning
        any more is forgotten; what others do, in a scope or partition that is not the asked one, is neither."""
        unfit, now = set[str](), self._clock.unix()
        for key, found in zip(keys, read, strict=True):
            if found is None or found.expires_at_unix_s <= now or found.question == "":
                self.removed(key)
                unfit.add(key)
            elif found.scope != scope or found.partition != meaning.partition:
                unfit.add(key)
            else:
                self.known.learn(found)
        return unfit


def _near(candidates: Candidates, known: Sequence[KnownQuestion | None]) -> list[Near]:
    sizes: dict[str, int] = {}
    for each in known:
        if each is not None and each.aliases > sizes.get(each.group, 0):
            sizes[each.group] = each.aliases
    return [
        Near(key, similarity)
        if each is None  # forgotten meanwhile
        else Near(each.group, similarity, max(1, sizes.get(each.group, 1)))
        for key, similarity, each in zip(candidates.keys, candidates.similarities, known, strict=True)
    ]
