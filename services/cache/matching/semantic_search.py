"""Finding an answer by meaning: who is near, what they propose, whether that is served, and what is learned of it.

Promises: an answer is served only from an entry that was read from the store in this very lookup and lies in the asked
partition of the asked scope (`nearby`); only if the hard guards find no difference; and only if the risk control of the
partition's class takes it, or the question has the same words. Nothing is ever learned from a hit that nobody checked.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from copy import copy
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from services.cache.entry import Answer, Entry, Scope
from services.cache.entry_group import group_of
from services.cache.index.vector_index import DimensionMismatchError, VectorIndex
from services.cache.matching.answer_comparison import Comparison, is_common_word
from services.cache.matching.answer_judge import AnswerJudge
from services.cache.matching.differences import certain_difference, exchanged_content
from services.cache.matching.findings import Explanation, Link, SemanticFinding
from services.cache.matching.judged_hits import Hit, JudgedHits
from services.cache.matching.known_questions import KnownQuestions
from services.cache.matching.nearby import Meaning, Nearby, NearbyReader
from services.cache.matching.neighbourhood import centres, evidence
from services.cache.matching.pair_features import Sketch, pair_features
from services.cache.matching.pair_model import PairModel
from services.cache.matching.partition_classes import PartitionClass, PartitionClasses
from services.cache.matching.proposal_guard import kind_of
from services.cache.matching.read_ahead import read_ahead
from services.cache.matching.refusals import Refusals
from services.cache.matching.risk_control import Judged, Source
from services.cache.store.answer_store import AnswerStore, StoreUnavailableError
from services.runtime.clock import Clock
from spillway.routing import TaskType

__all__ = ["SemanticSearch"]

Floats = npt.NDArray[np.float64]

GROUPS_COMPARED_MAX: Final = 8
"""Answers near a fresh one that it is compared with."""

NOTHING_NEAR: Final = "no comparable question is stored"
SAME_WORDS: Final = "the same words"


class SemanticSearch:
    """See the head of the file. DimensionMismatchError and StoreUnavailableError pass through."""

    def __init__(
        self,
        store: AnswerStore,
        index: VectorIndex,
        *,
        pair_model: PairModel,
        classes: PartitionClasses,
        judge: AnswerJudge,
        clock: Clock,
        similarity_min: float,
        known_max: int,
    ) -> None:
        self._store, self._index = store, index
        self._pair_model = pair_model
        self.classes = classes
        self._judge = judge
        self._similarity_min = similarity_min
        self._known = KnownQuestions(pair_model.idf, entries_max=known_max)
        self._refusals = Refusals(self._known)
        self._near = NearbyReader(store, index, self._known, clock)
        self._hits = JudgedHits()

    def ruled_by(self, *, similarity_min: float) -> SemanticSearch:
        """The same search by another bound: both share all that is known and learned."""
        other = copy(self)
        other._similarity_min = similarity_min  # noqa: SLF001 - one of ours
        return other

    async def find(self, scope: Scope, meaning: Meaning, *, request_key: str, peek: bool = False) -> SemanticFinding:
        """The answer to a question with that meaning. `request_key` is the exact key of the request.

        `peek`: nothing is served, so nothing is counted, nor audited.
        """
        if peek:
            return await self._peek(scope, meaning)
        deciding = self.classes.of(meaning.task_type, scope.tenant)
        deciding.count(lookups=1)
        candidates = await self._near.candidates(meaning)
        if twin := await self._near.twin(scope, meaning, candidates, similarity_min=self._similarity_min):
            return self._serve_same_words(deciding, twin, candidates.similarities[0], request_key)
        nearby = await self._near.find(scope, meaning, candidates, similarity_min=self._similarity_min)
        if nearby is None:
            deciding.controller.decide(None)
            return SemanticFinding(NOTHING_NEAR)
        if (twin := await self._near.same_words(scope, meaning, nearby)) is not None:
            return self._serve_same_words(deciding, twin, nearby.candidates.similarities[0], request_key)
        asked = self._known.read(meaning.question)
        features = self._features(deciding, meaning, asked, nearby)
        decision = deciding.controller.decide(
            features,
            group=nearby.proposal.group,
            refusal=lambda: self._refusal(asked, nearby),
            known=deciding.knows(scope.tenant),
        )
        explanation = self._explain(deciding, nearby, 1.0 - decision.wrong, decision.bar)
        if not decision.serve or decision.judged is None:
            return SemanticFinding(decision.reason, None, nearby.similarity, explanation=explanation)
        deciding.count(hits=1)
        deciding.drawn(decision.judged)
        self._hits.serve((request_key, nearby.entry.key), decision.judged)
        return SemanticFinding(decision.reason, nearby.entry, nearby.similarity, decision.audit, explanation)

    def _serve_same_words(
        self, deciding: PartitionClass, twin: Entry, similarity: float, request_key: str
    ) -> SemanticFinding:
        """What else is near, and how it looks, is evidence only where the hit is told of; it is looked at then."""
        audit, judged = deciding.controller.serve_same_words()
        deciding.count(hits=1)
        deciding.drawn(judged)
        self._hits.serve((request_key, twin.key), judged)
        return SemanticFinding(SAME_WORDS, twin, similarity, audit)

    async def _look(
        self, deciding: PartitionClass, scope: Scope, meaning: Meaning, twin: Entry, *, own_key: str, within_s: float
    ) -> Floats | None:
        """The evidence of what is near, where that proposes the answer that the same words were served; None when it
        does not, or the store does not say so in time: what was served without evidence needs none."""
        try:
            async with asyncio.timeout(within_s):
                nearby = await self._nearby(scope, meaning, own_key=own_key)
        except (StoreUnavailableError, DimensionMismatchError, TimeoutError):
            return None
        if nearby is None or nearby.proposal.group != group_of(twin):
            return None
        return self._features(deciding, meaning, self._known.read(meaning.question), nearby)

    async def _peek(self, scope: Scope, meaning: Meaning) -> SemanticFinding:
        """What `find` would come to, but for an audit."""
        deciding = self.classes.seen(meaning.task_type, scope.tenant)
        nearby = await self._nearby(scope, meaning)
        if nearby is None:
            return SemanticFinding(NOTHING_NEAR)
        if (twin := await self._near.same_words(scope, meaning, nearby)) is not None:
            return SemanticFinding(SAME_WORDS, twin, nearby.candidates.similarities[0])
        asked = self._known.read(meaning.question)
        decision = deciding.controller.consider(
            self._features(deciding, meaning, asked, nearby),
            refusal=lambda: self._refusal(asked, nearby),
            known=deciding.knows(scope.tenant),
        )
        explanation = self._explain(deciding, nearby, 1.0 - decision.wrong, decision.bar)
        entry = nearby.entry if decision.serve else None
        return SemanticFinding(decision.reason, entry, nearby.similarity, explanation=explanation)

    async def learn_from_answer(self, scope: Scope, meaning: Meaning, key: str, answer: Answer) -> Link:
        """Holds a fresh answer against those near it: evidence of what would have been served; whose answer it is."""
        nearby = await self._nearby(scope, meaning, own_key=key)
        if nearby is None:
            return Link()
        groups = {nearby.proposal.group: nearby.entry.key}
        for key_near, near in zip(nearby.candidates.keys, nearby.near, strict=True):
            if len(groups) < GROUPS_COMPARED_MAX:
                groups.setdefault(near.group, key_near)
        entries = await self._near.read(scope, meaning, list(groups.values()))
        stored = [entry for entry in entries if entry is not None]
        verdicts = await self._judge.compare(answer.message.text, [entry.answer.message.text for entry in stored])
        found = {entry.key: verdict for entry, verdict in zip(stored, verdicts, strict=True)}
        asked = self._known.read(meaning.question)
        verdict = found.get(nearby.entry.key, Comparison.UNKNOWN)
        deciding = self.classes.of(meaning.task_type, scope.tenant)
        deciding.compared(verdict)
        if verdict is not Comparison.UNKNOWN:
            guard = kind_of(self._refusal(asked, nearby))
            features = self._features(deciding, meaning, asked, nearby)
            judged = Judged(features, 0.0, guard, group=nearby.proposal.group)
            same = verdict is Comparison.SAME
            self.classes.observe(deciding, judged, tenant=scope.tenant, same=same, source=Source.MISS)
        sizes = {near.group: near.aliases for near in nearby.near}
        for key_near in nearby.candidates.keys:  # the nearest of those that say the same
            for entry in stored:
                alike = entry.key == key_near and found[entry.key] is Comparison.SAME
                if alike and self.may_link(meaning, entry, answer):
                    group = group_of(entry)
                    return Link(group, 1 + max(sizes.get(group, 1), entry.aliases))
        return Link()

    def may_link(self, meaning: Meaning, entry: Entry, answer: Answer) -> bool:
        """Whether an answer that says the same as that entry's shows that both questions have one answer.

        One that many questions have shows nothing of two of them, unless they hardly differ.
        """
        if not is_common_word(answer.message.text):
            return True
        asked, stored = self._known.read(meaning.question).reading, self._sketch(entry).reading
        return not (certain_difference(asked, stored) or exchanged_content(asked, stored))

    async def check(self, scope: Scope, meaning: Meaning, entry_key: str) -> Entry | None:
        """The entry, if it is one that a lookup with that meaning could have found."""
        (entry,) = await self._near.read(scope, meaning, [entry_key])
        return entry

    async def compare(self, fresh: Answer, entry: Entry) -> Comparison:
        """The answers of both."""
        (verdict,) = await self._judge.compare(fresh.message.text, [entry.answer.message.text])
        return verdict

    async def learn_from_hit(
        self,
        scope: Scope,
        meaning: Meaning,
        entry: Entry,
        *,
        request_key: str,
        same: bool,
        source: Source,
        look_s: float,
    ) -> bool:
        """Tells whether a hit was right. False: it counts as nothing, as none was served, or it was told before.

        `source`: FEEDBACK, or AUDIT for another answer, which is an audit only where one was drawn. `look_s`: how long
        may be looked for what is near where that decided nothing. Who is interrupted has told nothing yet.
        """
        deciding = self.classes.of(meaning.task_type, scope.tenant)
        hit = request_key, entry.key
        held = self._hits.judged(hit)
        if held is None:  # served by another replica, long ago, or never
            if not self._may_be_elsewhere(deciding, hit):
                return False
            nearby = await self._nearby(scope, meaning, own_key=request_key)
            if nearby is None or nearby.proposal.group != group_of(entry) or not self._may_be_elsewhere(deciding, hit):
                return False
            deciding.told_elsewhere += 1
            asked = self._known.read(meaning.question)
            guard = kind_of(self._refusal(asked, nearby))
            features = self._features(deciding, meaning, asked, nearby)
            judged = deciding.judged_elsewhere(features, guard, nearby.proposal.group)
        else:
            looked = held.features
            if looked is None:
                looked = await self._look(deciding, scope, meaning, entry, own_key=request_key, within_s=look_s)
            last = self._hits.take(hit)
            if last is None:  # told meanwhile
                return False
            judged = last if last.features is not None else replace(last, features=looked)
        if source is Source.AUDIT and not judged.audit:  # an answer to what was not drawn is a verdict like others
            source = Source.FEEDBACK
        deciding.told(judged)
        self._hits.tell(hit)
        deciding.count(audited=1, wrong=int(not same))
        self.classes.observe(deciding, judged, tenant=scope.tenant, same=same, source=source)
        return True

    def _may_be_elsewhere(self, deciding: PartitionClass, hit: Hit) -> bool:
        """Once of each, and of no more than were served here: each replica gets as many of others as others of its."""
        return not self._hits.was_told(hit) and deciding.told_elsewhere < deciding.hits

    async def read_ahead(self) -> None:
        """Reads what is stored, a little at a time, until as much is known as may be."""
        await read_ahead(self._store, self._index, self._known)

    def stored(self, entry: Entry, task_type: TaskType) -> None:
        """What this process has just stored, it need not read. A class that was ever asked for an answer is told of the
        words."""
        if entry.partition:
            self._known.learn(entry)
            deciding = self.classes.seen(task_type, entry.scope.tenant)
            deciding.controller.words.add(group_of(entry), self._sketch(entry).tokens)

    def removed(self, key: str) -> None:
        """The entry is gone."""
        self._near.removed(key)

    async def _nearby(self, scope: Scope, meaning: Meaning, *, own_key: str = "") -> Nearby | None:
        candidates = await self._near.candidates(meaning, own_key=own_key)
        return await self._near.find(scope, meaning, candidates, similarity_min=self._similarity_min)

    def _sketch(self, entry: Entry) -> Sketch:
        return self._known.sketch_of(entry.key, entry.question)

    def _features(self, deciding: PartitionClass, meaning: Meaning, asked: Sketch, nearby: Nearby) -> Floats:
        stored = self._sketch(nearby.entry)
        a = b = None
        if meaning.model == self._pair_model.embedding_model and len(nearby.entry.vector) == 4 * len(meaning.vector):
            a, b = meaning.vector, np.frombuffer(nearby.entry.vector, dtype="<f4").astype(np.float32)
        features = pair_features(asked, stored, nearby.similarity)
        group = nearby.proposal.group
        return evidence(
            nearby.proposal,
            self._pair_model.logit(features, a, b),
            centres(meaning.vector, nearby.near, nearby.candidates.vectors, nearby.proposal),
            chars=len(meaning.question),
            record=deciding.controller.record(group),
            words=deciding.controller.words.margin(group, (near.group for near in nearby.near), asked.tokens),
        )

    def _refusal(self, asked: Sketch, nearby: Nearby) -> str:
        return self._refusals.of(asked.reading, nearby.keys, aliases=nearby.aliases)

    def _explain(self, deciding: PartitionClass, nearby: Nearby, p_same: float, bar: float) -> Explanation:
        others = (near.similarity for near in nearby.near if near.group != nearby.proposal.group)
        return Explanation(
            partition_class=deciding.name,
            p_same=p_same,
            threshold=1.0 - bar,
            margin=nearby.similarity - max(others, default=-1.0),
            evidence=deciding.evidence,
            wrong_rate=deciding.controller.wrong_rate,
            aliases=nearby.aliases,
        )
