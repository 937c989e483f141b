"""Three replicas of the cache on one Redis, each behind a proxy that may cut it off, under a random schedule.

The schedule is held against a model of one node that knows the order of all acknowledged changes. During it, a hit must
be what the model holds (or, of a change that failed for its caller, what it may hold). After quiescence every replica
must answer every question as the model does, by meaning too.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from services.cache.entry import Scope, Selector
from services.cache.semantic_cache import Found, SemanticCache, StoreResult
from services.cache.store.answer_store import StoreUnavailableError
from services.cache.store.answer_store_redis import RedisStore
from services.runtime.clock import SystemClock
from spillway.routing import CacheKind, TaskType
from tests.support.cache_parts import answer, cache_over, chat, embedding, eventually, policy
from tests.support.fault_proxy import Ending, Fault, FaultProxy, fault_proxy

__all__ = ["Report", "run_schedule"]

REPLICAS = 3
TIMEOUT_S = 0.25
"""Of a replica's store: a partition costs this once, and then its cooldown."""

SCOPES = tuple(
    Scope(tenant, namespace, version) for tenant in ("t1", "t2") for namespace in ("n1", "n2") for version in ("1", "2")
)
TOPICS = 4
TAGS = ("red", "blue")
PARAPHRASES = ("how do I turn on the {}?", "How do I  turn on the {}")
THINGS = ("heater", "lamp", "radio", "oven")


@dataclass(slots=True)
class Report:
    """What happened."""

    steps: int = 0
    stored: int = 0
    invalidated: int = 0
    lookups: int = 0
    hits: int = 0
    unavailable: int = 0
    partitions: int = 0
    restarts: int = 0
    stale: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Held:
    """What may be served at one place: the first is what is known, the others were tried and failed for the caller."""

    possible: list[str | None] = field(default_factory=lambda: [None])
    tags: tuple[str, ...] = ()


class _Model:
    """One node: what every question's answer may be."""

    def __init__(self) -> None:
        self.held = {(scope, topic): _Held() for scope in SCOPES for topic in range(TOPICS)}
        # What failed for its caller may still be on its way, and arrive whenever the network is mended.
        self._late_puts: dict[tuple[Scope, int], list[str | None]] = {}
        self._late_invalidations: list[Selector] = []

    def put(self, place: tuple[Scope, int], text: str, tags: tuple[str, ...], *, is_known: bool) -> None:
        held = self.held[place]
        late = self._late_puts.setdefault(place, [])
        if not is_known:
            late.append(text)
        gone: list[str | None] = [None] if self._may_be_invalidated(place[0], (*held.tags, *tags)) else []
        held.possible = [text, *late, *gone] if is_known else [*held.possible, text]
        # Of a put that failed for its caller the tags are those of one or the other.
        held.tags = tags if is_known else tuple(dict.fromkeys((*held.tags, *tags)))

    def _may_be_invalidated(self, scope: Scope, tags: tuple[str, ...]) -> bool:
        return any(selector.takes("", scope, tags) for selector in self._late_invalidations)

    def invalidate(self, selector: Selector, *, is_known: bool) -> None:
        if not is_known:
            self._late_invalidations.append(selector)
        for (scope, topic), held in self.held.items():
            if selector.takes("", scope, held.tags):
                # A tag that only a failed put carried may or may not be there: both remain possible.
                is_certain = is_known and (selector.tag is None or len(held.possible) == 1)
                late = self._late_puts.get((scope, topic), [])
                held.possible = [None, *late] if is_certain else [*held.possible, None]


class _Replica:
    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self._cache: SemanticCache | None = None

    @property
    def cache(self) -> SemanticCache:
        assert self._cache is not None
        return self._cache

    async def start(self) -> None:
        store = RedisStore(f"redis://{self.proxy.address}/0", timeout_s=TIMEOUT_S, clock=SystemClock())
        self._cache = cache_over(store, SystemClock(), rules=policy(lookup_s=TIMEOUT_S + 0.1))
        await self._cache.start()

    async def stop(self) -> None:
        await self.cache.close()


async def run_schedule(redis_port: int, *, seed: int, steps: int) -> Report:
    """Runs it; AssertionError, with the seed, for a stale answer or a replica that does not converge."""
    chance, model, report = random.Random(seed), _Model(), Report()
    async with _replicas(redis_port) as replicas:
        for step in range(steps):
            report.steps += 1
            await _step(chance, replicas, model, report, f"seed {seed} step {step}")
        for replica in replicas:
            replica.proxy.fault = Fault()
        await _quiesce(replicas, model, seed)
    assert not report.stale, report.stale[:5]
    return report


@asynccontextmanager
async def _replicas(redis_port: int) -> AsyncIterator[list[_Replica]]:
    async with AsyncExitStack() as stack:
        replicas = [_Replica(await stack.enter_async_context(fault_proxy(redis_port))) for _ in range(REPLICAS)]
        for replica in replicas:
            await replica.start()
        yield replicas
        for replica in replicas:
            await replica.stop()


async def _step(chance: random.Random, replicas: list[_Replica], model: _Model, report: Report, name: str) -> None:
    replica = chance.choice(replicas)
    kind = chance.choices(("put", "lookup", "invalidate", "cut", "mend", "restart"), (30, 50, 6, 3, 9, 2))[0]
    place = (chance.choice(SCOPES), chance.randrange(TOPICS))
    if kind == "put":
        tags = tuple(tag for tag in TAGS if chance.random() < 0.4)
        text = f"answer of {name}"
        is_known = await _put(replica.cache, place, text, tags) is StoreResult.STORED
        model.put(place, text, tags, is_known=is_known)
        report.stored += is_known
    elif kind == "lookup":
        found = await _look_up(replica.cache, place, chance.randrange(2))
        report.lookups += 1
        report.unavailable += found.outcome.kind is CacheKind.UNAVAILABLE
        if found.answer is not None:
            report.hits += 1
            if found.answer.message.text not in model.held[place].possible:
                report.stale.append(f"{name}: {found.answer.message.text} at {place}")
    elif kind == "invalidate":
        selector = _selector(chance, place[0])
        try:
            await replica.cache.invalidate(selector, dry_run=False)
        except StoreUnavailableError:
            model.invalidate(selector, is_known=False)
        else:
            model.invalidate(selector, is_known=True)
            report.invalidated += 1
    elif kind == "cut":
        replica.proxy.fault = Fault(ending=chance.choice((Ending.BLACK_HOLE, Ending.RESET)))
        report.partitions += 1
    elif kind == "mend":
        replica.proxy.fault = Fault()
    elif replica.proxy.fault == Fault():  # one that is cut off would only wait
        await replica.stop()
        await replica.start()
        report.restarts += 1


async def _quiesce(replicas: list[_Replica], model: _Model, seed: int) -> None:
    """Every replica answers every question, in both wordings, as the first one does, and as the model allows."""
    for place, held in model.held.items():
        texts: set[str | None] = set()
        for replica in replicas:
            for wording in range(2):

                async def agrees(
                    replica: _Replica = replica,
                    wording: int = wording,
                    place: tuple[Scope, int] = place,
                    held: _Held = held,
                    texts: set[str | None] = texts,
                ) -> bool:
                    found = await _look_up(replica.cache, place, wording)
                    text = None if found.answer is None else found.answer.message.text
                    if found.outcome.kind is CacheKind.UNAVAILABLE or text not in held.possible:
                        assert text is None, f"seed {seed}: stale after quiescence at {place}: {text}"
                        return False
                    if len(held.possible) > 1:  # which one it became is the same everywhere
                        other = await _look_up(replicas[0].cache, place, 0)
                        if (None if other.answer is None else other.answer.message.text) != text:
                            return False
                    texts.add(text)
                    return True

                await eventually(agrees, what=f"seed {seed}: replicas agree on {place}: {held.possible}")
        assert len(texts) == 1, f"seed {seed}: {place} is {texts}"


async def _put(cache: SemanticCache, place: tuple[Scope, int], text: str, tags: tuple[str, ...]) -> StoreResult:
    scope, topic = place
    asked = chat(PARAPHRASES[0].format(THINGS[topic]))
    near = embedding(THINGS[topic])
    stored = await cache.store(scope, asked, answer(text), embedding=near, task_type=TaskType.OTHER, tags=tags)
    return stored.result


async def _look_up(cache: SemanticCache, place: tuple[Scope, int], wording: int) -> Found:
    scope, topic = place
    asked = chat(PARAPHRASES[wording].format(THINGS[topic]))
    return await cache.lookup(scope, asked, embedding=embedding(THINGS[topic]), task_type=TaskType.OTHER)


def _selector(chance: random.Random, scope: Scope) -> Selector:
    kinds = (
        Selector(tenant=scope.tenant),
        Selector(tenant=scope.tenant, namespace=scope.namespace),
        Selector(tenant=scope.tenant, template_version=scope.template_version),
        Selector(tenant=scope.tenant, tag=chance.choice(TAGS)),
        Selector(tenant=scope.tenant, namespace=scope.namespace, tag=chance.choice(TAGS)),
    )
    return chance.choice(kinds)
