"""What replicas share, in Redis where one is configured and in this process where not.

Promises: each of these can be away without failing a request; each lets Redis alone for a moment then. Each has
connections of its own, so a crowd at one of them keeps no other waiting.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from services.orchestrator.canary.drift_store import DriftStore, MemoryDrift
from services.orchestrator.canary.drift_store_redis import RedisDrift
from services.orchestrator.guarded_redis import connect
from services.orchestrator.jobs.job_store import JobStore
from services.orchestrator.jobs.memory_store import MemoryJobStore
from services.orchestrator.jobs.redis_store import RedisJobStore
from services.orchestrator.quotas.books import Books
from services.orchestrator.quotas.memory_books import MemoryBooks
from services.orchestrator.quotas.redis_books import RedisBooks
from services.orchestrator.replays.presence import Presence
from services.orchestrator.replays.replay_store import MemoryReplayStore, ReplayStore
from services.orchestrator.replays.replay_store_redis import RedisReplayStore
from services.orchestrator.users import MemoryUsers, RedisUsers, UserCounter
from services.runtime.clock import Clock
from services.runtime.config import read_secret
from services.runtime.redis_client import find_places
from services.runtime.redis_places import RedisPlaces
from spillway.settings import Settings

__all__ = ["SharedState", "open_shared_state"]

# A job that could not be written down is refused: its store gets more time than what can be done without.
JOB_TIMEOUT_FACTOR = 10.0


@dataclass(frozen=True, slots=True)
class SharedState:
    """The stores. Who uses `books` and `drift` closes them; `start` once, and `close` ends the rest."""

    users: UserCounter
    replays: ReplayStore
    jobs: JobStore
    books: Books
    drift: DriftStore
    clients: tuple[Redis, ...] = ()
    presence: Presence | None = None
    places: RedisPlaces | None = None

    def start(self) -> None:
        """Before the first request, so that none waits for what could be known by then. Waits for nothing itself."""
        if self.places is not None:
            self.places.watch()
        if self.presence is not None:
            self.presence.begin()

    async def close(self) -> None:
        """After everything that uses them."""
        if self.presence is not None:
            await self.presence.close()
        for client in self.clients:
            await client.aclose()
        if self.places is not None:
            await self.places.close()


def open_shared_state(settings: Settings, clock: Clock) -> SharedState:
    """Connects to nothing yet. Raises SecretError, and ValueError for a Redis that cannot be used for it: see
    `find_places`.
    """
    options, new = settings.orchestrator, settings.policy.new_users
    if not options.redis_url:
        return SharedState(
            users=MemoryUsers(clock, forget_s=new.forget_s, users_max=new.users_max),
            replays=MemoryReplayStore(clock),
            jobs=MemoryJobStore(clock),
            books=MemoryBooks(clock),
            drift=MemoryDrift(),
        )
    password = read_secret(options.redis_password_env, "") if options.redis_password_env else ""
    timeout_s = options.redis_timeout_s
    jobs_timeout_s = timeout_s * JOB_TIMEOUT_FACTOR
    places = find_places(options.redis_url, setting="orchestrator.redis_url", password=password, clock=clock)

    def client(limit_s: float = timeout_s) -> Redis:
        return connect(options.redis_url, password=password, timeout_s=limit_s, places=places)

    users, replays, jobs, alive = client(), client(), client(jobs_timeout_s), client()
    presence = Presence(alive)
    return SharedState(
        users=RedisUsers(users, timeout_s=timeout_s, clock=clock, forget_s=new.forget_s),
        replays=RedisReplayStore(replays, timeout_s=timeout_s, clock=clock, presence=presence, places=places),
        jobs=RedisJobStore(jobs, timeout_s=jobs_timeout_s, clock=clock, places=places),
        books=RedisBooks(client(), clock, timeout_s=timeout_s, places=places),
        drift=RedisDrift(client(), timeout_s=timeout_s, clock=clock),
        clients=(users, replays, jobs, alive),
        presence=presence,
        places=places,
    )
