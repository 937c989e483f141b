"""The cache as a use case: look up, store, invalidate, count; over a store of answers and an index of questions.

Promises: what the store cannot tell in time is an outcome, never an error, and no lookup takes longer than
`CachePolicy.lookup_s`. A hit is always an entry that the store still has: the index only proposes. An answer leaves its
scope under no circumstances: the key and the partition contain the scope, and the entry found is held against it once
more. An answer that was invalidated, through this replica or another, after the lookup before its model was asked, is
not kept; without the token of such a lookup, after it was handed over. What this replica stored or removed, its next
lookup sees; what others did, it sees for removals at once and for new entries as soon as the store's changes arrive.

Belongs to one event loop. `start` before use, `close` after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from services.cache.admission import lifetime_s, refusal_reason
from services.cache.answer_finder import AnswerFinder, missed
from services.cache.answer_keeper import AnswerKeeper
from services.cache.answer_version import answer_version
from services.cache.cache_policy import CachePolicy
from services.cache.entry import Answer, Entry, Scope, Selector
from services.cache.entry_group import group_of
from services.cache.index.follower import Follower, Snapshots
from services.cache.index.vector_index import DimensionMismatchError, VectorIndex, unit_vector
from services.cache.matching.answer_comparison import Comparison
from services.cache.matching.answer_judge import EMBED_S_MAX
from services.cache.matching.findings import Link
from services.cache.matching.nearby import Meaning
from services.cache.matching.partition_classes import ClassReport
from services.cache.matching.risk_control import Source
from services.cache.matching.semantic_search import SemanticSearch
from services.cache.outcomes import Found, Stats, Stored, StoreResult
from services.cache.partition import entry_key
from services.cache.store.answer_store import AnswerStore, StoreUnavailableError
from services.runtime.clock import Clock
from spillway.chat import ChatRequest, Embedding
from spillway.routing import CacheKind, CacheOutcome, TaskType

__all__ = ["SemanticCache"]


class SemanticCache:
    """See the head of the file."""

    def __init__(
        self,
        store: AnswerStore,
        index: VectorIndex,
        *,
        search: SemanticSearch,
        policy: CachePolicy,
        clock: Clock,
        snapshots: Snapshots | None = None,
        reads_ahead: bool = False,
    ) -> None:
        """`reads_ahead`: for stores whose entries are in this process."""
        self._store = store
        self._index = index
        self._search = search
        self._policy = policy
        self._clock = clock
        self._stats = Stats()
        self._finder = AnswerFinder(store, index, clock=clock)
        self._keeper = AnswerKeeper(store, index, stats=self._stats)
        self._reads_ahead = reads_ahead
        self._reading: asyncio.Task[None] | None = None
        self._follower = Follower(store, index, clock=clock, snapshots=snapshots)

    def ruled_by(self, policy: CachePolicy, *, similarity_min: float) -> SemanticCache:
        """The same cache by other rules: both hold, learn and count the same, and only one is started and closed.

        So whoever is in the middle of a call keeps the rules that it began with.
        """
        other = copy(self)
        other._policy = policy  # noqa: SLF001 - one of ours
        other._search = self._search.ruled_by(similarity_min=similarity_min)  # noqa: SLF001
        return other

    async def start(self) -> None:
        """Returns when the index is warm, or known not to become so soon."""
        await self._search.classes.load()
        await self._follower.start()
        if self._reads_ahead:
            self._reading = asyncio.create_task(self._search.read_ahead(), name="read-ahead")

    async def close(self) -> None:
        """Keeps what was learned, and lets go of the store."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._search.classes.close()
        await self._follower.close()
        await self._store.close()

    async def lookup(
        self,
        scope: Scope,
        chat: ChatRequest,
        *,
        embedding: Embedding | None = None,
        task_type: TaskType | None = None,
        skip_exact: bool = False,
        peek: bool = False,
    ) -> Found:
        """The answer to this request, or to one with the same meaning. Raises InvalidVectorError.

        `skip_exact`: the rest of a lookup that was begun, here or at another replica, and counted there. `peek`:
        nothing is served, so nothing is counted.
        """
        vector = None if embedding is None else unit_vector(embedding.values)
        self._stats.lookups += not (peek or skip_exact)
        if unfit := self._policy.unfit(chat):
            return Found(CacheOutcome(CacheKind.NEVER_CACHED, f"the question is {unfit.replace('_', ' ')}"))
        key, token = entry_key(scope, chat), ""
        try:
            async with asyncio.timeout(self._policy.lookup_s):
                found = None
                if not skip_exact:
                    entry, token = await self._store.read(key)
                    found = self._finder.exact(scope, entry)
                if found is None:
                    meaning = self._policy.meaning(scope, chat, embedding, vector, task_type)
                    found = (
                        missed(meaning)
                        if isinstance(meaning, str)
                        else await self._finder.similar(scope, key, meaning, search=self._search, peek=peek)
                    )
        except (StoreUnavailableError, TimeoutError):
            found = Found(CacheOutcome(CacheKind.UNAVAILABLE, "the store did not answer in time"))
        if not peek:
            self._count(found.outcome)
        return replace(found, store_token=token)

    async def store(
        self,
        scope: Scope,
        chat: ChatRequest,
        answer: Answer,
        *,
        embedding: Embedding | None = None,
        task_type: TaskType | None = None,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
        token: str = "",
    ) -> Stored:
        """Stores the answer, if it may be, and learns from it. Raises InvalidVectorError and DimensionMismatchError.

        `token`: `Found.store_token` of the lookup before the model was asked.
        """
        vector = None if embedding is None else unit_vector(embedding.values)
        if embedding is not None and vector is not None:
            self._index.check_dimension(embedding.model, vector)
        reason = refusal_reason(answer, size_bytes_max=self._policy.entry_bytes_max)
        if reason := reason or self._policy.unfit(chat):
            self._stats.not_admitted += 1
            return Stored(StoreResult.NOT_ADMITTED, reason=reason)
        key = entry_key(scope, chat)
        try:
            since = token or await self._store.moment(key)
        except StoreUnavailableError:
            return self._keeper.dropped()
        meaning = self._policy.meaning(scope, chat, embedding, vector, task_type)
        link = Link()
        if isinstance(meaning, Meaning):
            link = await self._learn(scope, meaning, key, answer)
        return await self._keep(scope, chat, answer, meaning, link, ttl_s=ttl_s, tags=tags, since=since)

    async def record_evidence(
        self,
        scope: Scope,
        chat: ChatRequest,
        evidence: Answer | bool,
        *,
        key: str,
        embedding: Embedding,
        task_type: TaskType | None,
        ttl_s: float | None = None,
        tags: Sequence[str] = (),
        token: str = "",
        version: str = "",
    ) -> Comparison:
        """Whether the entry with that key was right for this request: by another answer to it, or by a verdict.

        UNKNOWN: nothing was learned; so for a request that no stored answer may serve. A fresh answer is stored for its
        own request, with `ttl_s`, `tags` and `token` as for `store`; where it says the same as the entry, for no longer
        than that was to live. `version`: of the answer that was served (`answer_version`); of another one nothing is
        learned. Raises InvalidVectorError.
        """
        meaning = self._policy.meaning(scope, chat, embedding, unit_vector(embedding.values), task_type)
        if not isinstance(meaning, Meaning) or self._policy.unfit(chat):
            return Comparison.UNKNOWN
        request_key = entry_key(scope, chat)
        try:
            async with asyncio.timeout(self._policy.lookup_s + EMBED_S_MAX) as limit:
                since = token or await self._store.moment(request_key)
                entry = await self._search.check(scope, meaning, key)
                if entry is None or version not in ("", answer_version(entry.answer)):
                    return Comparison.UNKNOWN
                verdict = await self._compared(entry, evidence)
                if verdict is not Comparison.UNKNOWN:
                    source = Source.FEEDBACK if isinstance(evidence, bool) else Source.AUDIT
                    same = verdict is Comparison.SAME
                    counts = await self._search.learn_from_hit(
                        scope,
                        meaning,
                        entry,
                        request_key=request_key,
                        same=same,
                        source=source,
                        look_s=_half_left_s(limit),
                    )
                    await self._keeper.hear(entry, search=self._search, is_right=same, counts=counts)
        except (StoreUnavailableError, TimeoutError, DimensionMismatchError):
            return Comparison.UNKNOWN
        if isinstance(evidence, Answer) and not refusal_reason(evidence, size_bytes_max=self._policy.entry_bytes_max):
            same = verdict is Comparison.SAME
            is_linked = same and self._search.may_link(meaning, entry, evidence)
            link = Link(group_of(entry), entry.aliases + 1) if is_linked else Link()
            if same:
                ttl_s = min(lifetime_s(ttl_s, tags, self._policy.ttl), entry.expires_at_unix_s - entry.stored_at_unix_s)
            await self._keep(scope, chat, evidence, meaning, link, ttl_s=ttl_s, tags=tags, since=since)
        return verdict

    async def invalidate(self, selector: Selector, *, dry_run: bool) -> int:
        """Removes the entries, or only counts them; how many. Raises StoreUnavailableError: a removal must be known."""
        if dry_run:
            return len(await self._store.find(selector))
        return await self._store.invalidate(selector)

    def stats(self) -> Stats:
        """The counts as of now."""
        return replace(
            self._stats,
            indexed_entries=len(self._index),
            partitions=self._index.partitions,
            evicted=self._store.evicted,
        )

    def wrong_rates(self) -> list[ClassReport]:
        """What each class of partitions knows of its errors."""
        return [each.report() for each in self._search.classes.all()]

    async def _keep(
        self,
        scope: Scope,
        chat: ChatRequest,
        answer: Answer,
        meaning: Meaning | str,
        link: Link,
        *,
        ttl_s: float | None,
        tags: Sequence[str],
        since: str,
    ) -> Stored:
        entry = self._policy.entry(
            scope,
            chat,
            answer,
            meaning,
            ttl_s=ttl_s,
            tags=tags,
            group=link.group,
            aliases=link.aliases,
            now_unix_s=self._clock.unix(),
        )
        return await self._keeper.keep(entry, meaning, search=self._search, since=since)

    async def _learn(self, scope: Scope, meaning: Meaning, key: str, answer: Answer) -> Link:
        """What those near it say of a fresh answer; nothing when that takes too long."""
        try:
            async with asyncio.timeout(self._policy.lookup_s + EMBED_S_MAX):
                return await self._search.learn_from_answer(scope, meaning, key, answer)
        except (StoreUnavailableError, TimeoutError, DimensionMismatchError):
            return Link()

    async def _compared(self, entry: Entry, evidence: Answer | bool) -> Comparison:
        if isinstance(evidence, bool):
            return Comparison.SAME if evidence else Comparison.DIFFERENT
        if refusal_reason(evidence, size_bytes_max=self._policy.entry_bytes_max):
            return Comparison.UNKNOWN
        return await self._search.compare(evidence, entry)

    def _count(self, outcome: CacheOutcome) -> None:
        kind = outcome.kind
        if outcome.entry_key:
            self._store.served(outcome.entry_key)
        self._stats.exact_hits += kind is CacheKind.EXACT_HIT
        self._stats.semantic_hits += kind is CacheKind.SEMANTIC_HIT
        self._stats.unavailable += kind is CacheKind.UNAVAILABLE


def _half_left_s(limit: asyncio.Timeout) -> float:
    until = limit.when()
    return 0.0 if until is None else 0.5 * (until - asyncio.get_running_loop().time())
