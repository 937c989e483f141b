"""Three replicas of the cache on one Redis, each behind a proxy that may cut it off, under a random schedule.

The schedule is held against a model of one node that knows the order of all acknowledged changes, and the time. During
it, a hit must be what the model holds (or, of a change that failed for its caller, what it may hold). After quiescence
every replica must answer every question as the model does, by meaning too. Questions are repeated: most lookups are of
what was stored or removed a moment ago. Half of the answers are of models that were asked some steps before, at another
replica perhaps, and bring back what the lookup of then was told: those that were invalidated since must be turned away,
and no others. The replicas share a clock that the schedule moves on.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from services.cache.entry import Scope, Selector
from services.cache.outcomes import Found, StoreResult
from services.cache.semantic_cache import SemanticCache
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_redis import PAUSE_S, RedisStore
from services.runtime.clock import SystemClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding, policy
from tests.support.fault_proxy import Ending, Fault, FaultProxy, fault_proxy
from tests.support.waiting import until

__all__ = ["Report", "run_schedule"]

REPLICAS = 3
TIMEOUT_S = 0.25
"""Of a replica's store: a partition costs this once, and then its cooldown."""

SCOPES = tuple(
    Scope(tenant, namespace, version) for tenant in ("t1", "t2") for namespace in ("n1", "n2") for version in ("1", "2")
)
TOPICS = 4
TAGS = ("red", "blue")
TTLS_S = (60.0, 3_600.0)
PASSING_S = 45.0
PARAPHRASES = ("how do I turn on the {}?", "How do I  turn on the {}")
THINGS = ("heater", "lamp", "radio", "oven")
RECENT = 4
"""Places that most lookups are of: those touched last."""

STEPS = {"ask": 14, "put": 26, "lookup": 60, "invalidate": 6, "pass": 2, "cut": 2, "mend": 6, "restart": 2}

_Place = tuple[Scope, int]


@dataclass(slots=True)
class Report:
    """What happened. `held`: lookups for which the model knew an answer for sure; `removed`: lookups where an answer
    had been invalidated or replaced or had expired, so that a stale one was to be had; `empty`: of them, where no other
    came after it."""

    counts: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)


class _Clock(SystemClock):
    """The real one, moved on."""

    def __init__(self) -> None:
        self._passed_s = 0.0

    def advance(self, seconds: float) -> None:
        self._passed_s += seconds

    def monotonic(self) -> float:
        return super().monotonic() + self._passed_s

    def unix(self) -> float:
        return super().unix() + self._passed_s


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    tags: tuple[str, ...]
    expires_at_unix_s: float


@dataclass(slots=True)
class _Held:
    """What may be served at one place: one thing when all is known; None is nothing."""

    possible: list[_Answer | None] = field(default_factory=lambda: [None])
    late: list[_Answer] = field(default_factory=list)  # puts that failed for their callers may still arrive
    was_removed: bool = False


class _Model:
    """One node: what every question's answer may be."""

    def __init__(self, clock: _Clock) -> None:
        self.held: dict[_Place, _Held] = {(scope, topic): _Held() for scope in SCOPES for topic in range(TOPICS)}
        self._clock = clock
        self._late_invalidations: list[Selector] = []

    def texts(self, place: _Place) -> set[str | None]:
        """What may be served now."""
        return {
            None if each is None or each.expires_at_unix_s <= self._clock.unix() else each.text
            for each in self.held[place].possible
        }

    def was_removed(self, place: _Place) -> bool:
        """Whether there was something else than there is."""
        held, now = self.held[place], self._clock.unix()
        return held.was_removed or any(each is not None and each.expires_at_unix_s <= now for each in held.possible)

    def put(self, place: _Place, put: _Answer, *, is_known: bool) -> None:
        held = self.held[place]
        if not is_known:
            held.late.append(put)
            held.possible.append(put)
            return
        held.was_removed |= held.possible != [None]
        is_overtaken = any(each.takes("", place[0], put.tags) for each in self._late_invalidations)
        held.possible = [put, *held.late, *([None] if is_overtaken else [])]

    def invalidate(self, selector: Selector, *, is_known: bool) -> None:
        """One that is known also takes puts that have not arrived: they began before it."""
        if not is_known:
            self._late_invalidations.append(selector)
        for (scope, _), held in self.held.items():

            def stays(each: _Answer | None, scope: Scope = scope) -> bool:
                return each is None or not selector.takes("", scope, each.tags)

            if all(map(stays, held.possible)):
                continue
            held.was_removed = True
            if is_known:
                held.possible = list(filter(stays, held.possible))
                held.late = list(filter(stays, held.late))
            if None not in held.possible:
                held.possible.append(None)


class _Replica:
    def __init__(self, proxy: FaultProxy, clock: _Clock) -> None:
        self.proxy = proxy
        self._clock = clock
        self._cache: SemanticCache | None = None

    @property
    def cache(self) -> SemanticCache:
        assert self._cache is not None
        return self._cache

    async def start(self) -> None:
        store = RedisStore(f"redis://{self.proxy.address}/0", timeout_s=TIMEOUT_S, clock=self._clock)
        self._cache = cache_over(store, self._clock, rules=policy(lookup_s=TIMEOUT_S + 0.1))
        await self._cache.start()

    async def stop(self) -> None:
        await self.cache.close()


async def run_schedule(redis_port: int, *, seed: int, steps: int) -> Report:
    """Runs it; AssertionError, with the seed, for a stale answer or a replica that does not converge."""
    schedule = _Schedule(seed)
    async with _replicas(redis_port, schedule.clock) as replicas:
        for step in range(steps):
            await schedule.step(replicas, f"seed {seed} step {step}")
        for replica in replicas:
            replica.proxy.fault = Fault()
        schedule.clock.advance(PAUSE_S)
        await _quiesce(replicas, schedule.model, seed)
    assert not schedule.report.stale, schedule.report.stale[:5]
    return schedule.report


@asynccontextmanager
async def _replicas(redis_port: int, clock: _Clock) -> AsyncIterator[list[_Replica]]:
    async with AsyncExitStack() as stack:
        replicas = [_Replica(await stack.enter_async_context(fault_proxy(redis_port)), clock) for _ in range(REPLICAS)]
        for replica in replicas:
            await replica.start()
        yield replicas
        for replica in replicas:
            await replica.stop()


@dataclass(slots=True)
class _Asked:
    """A model that was asked, and what was invalidated since; in `tried` also what failed for its caller."""

    place: _Place
    tags: tuple[str, ...]
    token: str
    known: list[Selector] = field(default_factory=list)
    tried: list[Selector] = field(default_factory=list)

    def is_taken(self, selectors: list[Selector]) -> bool:
        return any(each.takes("", self.place[0], self.tags) for each in selectors)


class _Schedule:
    """One step after the other, and what the model makes of it."""

    def __init__(self, seed: int) -> None:
        self.clock = _Clock()
        self.model = _Model(self.clock)
        self.report = Report()
        self._chance = random.Random(seed)
        self._recent: deque[_Place] = deque(maxlen=RECENT)
        self._asked: list[_Asked] = []

    async def step(self, replicas: list[_Replica], name: str) -> None:
        replica = self._chance.choice(replicas)
        (kind,) = self._chance.choices(list(STEPS), list(STEPS.values()))
        self.report.counts[kind] += 1
        match kind:
            case "ask":
                await self._ask(replica.cache)
            case "put" if self._asked and self._chance.random() < 0.5:
                await self._put_asked(replica.cache, self._asked.pop(0), name)
            case "put":
                await self._put(replica.cache, name)
            case "lookup":
                await self._look_up(replica.cache, name)
            case "invalidate":
                await self._invalidate(replica.cache)
            case "pass":
                self.clock.advance(PASSING_S)
            case "cut":
                replica.proxy.fault = Fault(ending=self._chance.choice((Ending.BLACK_HOLE, Ending.RESET)))
            case "mend":
                for each in replicas:
                    each.proxy.fault = Fault()
                self.clock.advance(PAUSE_S)  # so that what was left alone is asked again
            case "restart" if replica.proxy.fault == Fault():  # one that is cut off would only wait
                await replica.stop()
                await replica.start()

    async def _ask(self, cache: SemanticCache) -> None:
        place, tags = self._place(), self._tags()
        found = await _look_up(cache, place, 0, peek=True)
        if found.store_token:
            self._asked.append(_Asked(place, tags, found.store_token))

    async def _put_asked(self, cache: SemanticCache, asked: _Asked, name: str) -> None:
        put = _Answer(f"answer of {name}", asked.tags, self.clock.unix() + TTLS_S[1])
        result = await _put(cache, asked.place, put, TTLS_S[1], token=asked.token)
        self._recent.append(asked.place)
        if result is StoreResult.NOT_ADMITTED:
            self.report.counts["overtaken"] += 1
            assert asked.is_taken(asked.tried), f"{name}: turned away for nothing"
        elif asked.is_taken(asked.known):
            if result is StoreResult.STORED:
                self.report.stale.append(f"{name}: kept although it was invalidated")
        else:
            self.model.put(asked.place, put, is_known=result is StoreResult.STORED)
            self.report.counts["stored"] += result is StoreResult.STORED

    def _place(self) -> _Place:
        return self._chance.choice(SCOPES), self._chance.randrange(TOPICS)

    def _tags(self) -> tuple[str, ...]:
        return tuple(tag for tag in TAGS if self._chance.random() < 0.4)

    async def _put(self, cache: SemanticCache, name: str) -> None:
        place, tags = self._place(), self._tags()
        ttl_s = self._chance.choice(TTLS_S)
        put = _Answer(f"answer of {name}", tags, self.clock.unix() + ttl_s)
        is_known = await _put(cache, place, put, ttl_s) is StoreResult.STORED
        self.model.put(place, put, is_known=is_known)
        self.report.counts["stored"] += is_known
        self._recent.append(place)

    async def _look_up(self, cache: SemanticCache, name: str) -> None:
        is_recent = self._recent and self._chance.random() < 0.85
        place = self._chance.choice(self._recent) if is_recent else self._place()
        found = await _look_up(cache, place, self._chance.randrange(2))
        allowed, counts = self.model.texts(place), self.report.counts
        counts[found.outcome.kind.value] += 1
        was_removed = self.model.was_removed(place)
        counts["held"] += None not in allowed
        counts["removed"] += was_removed
        counts["empty"] += was_removed and allowed == {None}
        if found.answer is not None and found.answer.message.text not in allowed:
            self.report.stale.append(f"{name}: {found.answer.message.text} at {place}, allowed: {allowed}")

    async def _invalidate(self, cache: SemanticCache) -> None:
        scope, topic = self._chance.choice(self._recent) if self._recent else (SCOPES[0], 0)
        selector = _selector(self._chance, scope)
        for asked in self._asked:
            asked.tried.append(selector)
        try:
            await cache.invalidate(selector, dry_run=False)
        except StoreUnavailableError:
            self.model.invalidate(selector, is_known=False)
        else:
            self.model.invalidate(selector, is_known=True)
            for asked in self._asked:
                asked.known.append(selector)
            self.report.counts["invalidated"] += 1
        self._recent.append((scope, topic))


async def _quiesce(replicas: list[_Replica], model: _Model, seed: int) -> None:
    """Every replica answers every question, in both wordings, as the first one does, and as the model allows."""
    for place in model.held:
        seen: set[str | None] = set()
        for replica in replicas:
            for wording in range(2):

                async def agrees(
                    replica: _Replica = replica,
                    wording: int = wording,
                    place: _Place = place,
                    seen: set[str | None] = seen,
                ) -> bool:
                    found = await _look_up(replica.cache, place, wording)
                    text = None if found.answer is None else found.answer.message.text
                    allowed = model.texts(place)
                    if found.outcome.kind is CacheKind.UNAVAILABLE or text not in allowed:
                        assert text is None, f"seed {seed}: stale after quiescence at {place}: {text}"
                        return False
                    if len(allowed) > 1:  # which one it became is the same everywhere
                        other = await _look_up(replicas[0].cache, place, 0)
                        if (None if other.answer is None else other.answer.message.text) != text:
                            return False
                    seen.add(text)
                    return True

                await until(agrees, what=f"seed {seed}: replicas agree on {place}: {model.texts(place)}")
        assert len(seen) == 1, f"seed {seed}: {place} is {seen}"


async def _put(cache: SemanticCache, place: _Place, put: _Answer, ttl_s: float, *, token: str = "") -> StoreResult:
    scope, topic = place
    stored = await cache.store(
        scope,
        chat(PARAPHRASES[0].format(THINGS[topic])),
        answer(put.text),
        embedding=embedding(THINGS[topic]),
        task_type=TaskType.OTHER,
        ttl_s=ttl_s,
        tags=put.tags,
        token=token,
    )
    return stored.result


async def _look_up(cache: SemanticCache, place: _Place, wording: int, *, peek: bool = False) -> Found:
    scope, topic = place
    asked = chat(PARAPHRASES[wording].format(THINGS[topic]))
    return await cache.lookup(scope, asked, embedding=embedding(THINGS[topic]), task_type=TaskType.OTHER, peek=peek)


def _selector(chance: random.Random, scope: Scope) -> Selector:
    kinds = (
        Selector(tenant=scope.tenant),
        Selector(tenant=scope.tenant, namespace=scope.namespace),
        Selector(tenant=scope.tenant, template_version=scope.template_version),
        Selector(tenant=scope.tenant, tag=chance.choice(TAGS)),
        Selector(tenant=scope.tenant, namespace=scope.namespace, tag=chance.choice(TAGS)),
    )
    return chance.choice(kinds)
