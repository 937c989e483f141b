"""The cache process: `python -m services.cache --config FILE --listen HOST:PORT`."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

import faiss
from opentelemetry import metrics
from opentelemetry.metrics import Observation

from services.cache.admission import Allowances, TtlByFreshness
from services.cache.cache_policy import CachePolicy
from services.cache.index.follower import Snapshots
from services.cache.index.index_snapshot import remove_snapshot
from services.cache.index.vector_index import VectorIndex
from services.cache.matching.answer_judge import AnswerJudge, ClassifierEmbedder
from services.cache.matching.pair_model import PairModel, PairModelError, parse_pair_model
from services.cache.matching.partition_classes import PartitionClasses
from services.cache.matching.risk_control import RiskPolicy
from services.cache.matching.semantic_search import SemanticSearch
from services.cache.metrics import export_metrics
from services.cache.semantic_cache import SemanticCache
from services.cache.servicer import CacheServicer
from services.cache.store.answer_store import AnswerStore
from services.cache.store.answer_store_file import FileStore
from services.cache.store.answer_store_memory import MemoryStore
from services.cache.store.answer_store_redis import RedisStore
from services.cache.store.entry_file import FileStoreError
from services.cache.store.prompt_cipher import PromptCipher, PromptKeyError, parse_prompt_keys
from services.cache.store.redis_limits import Limits
from services.runtime import telemetry
from services.runtime.channel import open_channel
from services.runtime.clock import Clock, SystemClock
from services.runtime.config import ConfigError, Loaded, SecretError, read_secret
from services.runtime.main import run
from services.runtime.server import Service
from services.runtime.tls import open_certificates
from spillway.configuration.document import Problem
from spillway.settings import Cache as CacheSettings
from spillway.v1.cache_pb2_grpc import add_CacheServiceServicer_to_server

SEARCH_THREADS = 2
"""Searches of large partitions at a time; each is bound by memory bandwidth, so more would not be faster."""

FILE_DEFAULT = "cache.sqlite"

KNOWN_MAX = 200_000
"""Questions remembered beside the store, some 400 bytes each."""

PAIR_MODEL = Path(__file__).parent / "matching" / "data" / "pair_model.npz"

INDEX_AHEAD = 4_096
"""Entries beyond the limit that the index has room for with Redis, some 2 kB each: what this replica puts is in its
index before it learns what had to leave for it."""

LOOKUP_MARGIN_S = 0.005
"""What a lookup may take beyond the store's time limit, so that the store's own verdict comes first."""


async def build(loaded: Loaded) -> Service:
    """The composition root."""
    settings = loaded.settings.cache
    clock = SystemClock()
    faiss.omp_set_num_threads(1)
    threads = ThreadPoolExecutor(
        SEARCH_THREADS,
        thread_name_prefix="cache-search",
        initializer=faiss.omp_set_num_threads,  # each thread has a number of its own
        initargs=(1,),
    )
    pair_model = _pair_model(loaded)
    store = await _store(loaded, clock)
    ahead = INDEX_AHEAD if settings.store == "redis" else 0
    index = VectorIndex(entries_max=settings.entries_max + ahead, executor=threads)
    certificates = open_certificates(loaded.settings.tls, "cache")
    classifier = open_channel(
        loaded.settings.services.classifier.target,
        service_name="spillway.v1.ClassifierService",
        message_bytes_max=loaded.settings.limits.message_bytes_max,
        certificates=certificates,
        server_name=loaded.settings.services.classifier.server_name,
    )
    search = SemanticSearch(
        store,
        index,
        pair_model=pair_model,
        classes=PartitionClasses(
            RiskPolicy(settings.max_wrong_rate or 1.0, settings.audits.share),
            random=Random(),
            threads=threads,
            directory=_risk_directory(loaded),
        ),
        judge=AnswerJudge(ClassifierEmbedder(classifier, clock=clock), threads=threads),
        clock=clock,
        similarity_min=settings.similarity_min,
        known_max=min(settings.entries_max, KNOWN_MAX),
    )
    cache = SemanticCache(
        store,
        index,
        search=search,
        policy=_policy(settings),
        clock=clock,
        snapshots=_snapshots(loaded, threads),
        reads_ahead=settings.store != "redis",
    )
    export_metrics(metrics.get_meter("spillway.cache"), cache)
    servicer = CacheServicer(cache)

    async def reconfigure(changed: Loaded) -> None:
        rules = changed.settings.cache
        servicer.use(cache.ruled_by(_policy(rules), similarity_min=rules.similarity_min))

    async def close() -> None:
        await cache.close()
        await classifier.close()
        threads.shutdown(wait=False)

    return Service(
        name="cache",
        register=lambda server: add_CacheServiceServicer_to_server(servicer, server),
        service_names=("spillway.v1.CacheService",),
        warm=cache.start,
        close=close,
        reconfigure=reconfigure,
        certificates=certificates,
    )


def _policy(settings: CacheSettings) -> CachePolicy:
    is_semantic = settings.semantic and settings.max_wrong_rate > 0.0
    return CachePolicy(
        ttl=TtlByFreshness(settings.ttl_s.static, settings.ttl_s.business, settings.ttl_s.default),
        semantic_task_types=frozenset(settings.semantic_task_types if is_semantic else ()),
        entry_bytes_max=settings.entry_bytes_max,
        lookup_s=settings.redis_timeout_s + LOOKUP_MARGIN_S,
        allowed=Allowances(
            time_sensitive=settings.allow_time_sensitive,
            personal=settings.allow_personal,
            semantic_temperature_max=settings.semantic_temperature_max,
        ),
    )


async def _store(loaded: Loaded, clock: Clock) -> AnswerStore:
    settings = loaded.settings.cache
    cipher = _cipher(loaded)
    ciphers = () if cipher is None else (cipher,)
    if settings.store != "redis" and ciphers:
        _count_unreadable(*ciphers)
    if settings.store == "memory":
        return MemoryStore(
            entries_max=settings.entries_max,
            tenant_entries_max=settings.tenant_entries_max,
            bytes_max=settings.bytes_max,
            clock=clock,
        )
    if settings.store == "file":
        try:
            return await FileStore.open(
                Path(settings.file or FILE_DEFAULT),
                entries_max=settings.entries_max,
                tenant_entries_max=settings.tenant_entries_max,
                bytes_max=settings.bytes_max,
                clock=clock,
                cipher=cipher,
            )
        except FileStoreError as error:
            raise ConfigError(loaded.path, [Problem(0, "cache.file", str(error))]) from error
    try:
        store = RedisStore(
            settings.redis_url,
            password=read_secret(settings.redis_password_env, ""),
            timeout_s=settings.redis_timeout_s,
            clock=clock,
            limits=Limits(settings.tenant_entries_max, settings.entries_max, settings.bytes_max),
            cipher=cipher,
        )
    except ValueError as error:
        raise ConfigError(loaded.path, [Problem(0, "cache.redis_url", str(error))]) from error
    _count_unreadable(store, *ciphers)
    return store


def _pair_model(loaded: Loaded) -> PairModel:
    configured = loaded.settings.cache.verifier
    path = Path(configured).expanduser() if configured else PAIR_MODEL
    try:
        return parse_pair_model(path.read_bytes())
    except (PairModelError, OSError) as error:
        raise ConfigError(loaded.path, [Problem(0, "cache.verifier", f"{path}: {error}")]) from error


def _risk_directory(loaded: Loaded) -> Path | None:
    """Where what was learned of errors is kept: beside the entries, or beside the snapshots; not for a memory."""
    settings = loaded.settings.cache
    if settings.store == "file":
        path = Path(settings.file or FILE_DEFAULT)
        return path.with_name(path.name + ".risk")
    if settings.store == "redis" and settings.snapshot_dir:
        return Path(settings.snapshot_dir).expanduser() / "risk"
    return None


def _cipher(loaded: Loaded) -> PromptCipher | None:
    settings = loaded.settings.cache
    if not settings.prompt_key_file:
        return None
    try:
        return PromptCipher(parse_prompt_keys(read_secret("", settings.prompt_key_file)))
    except PromptKeyError as error:
        raise SecretError(f"the file {settings.prompt_key_file}: {error}") from None


def _count_unreadable(*counting: PromptCipher | RedisStore) -> None:
    telemetry.meter().create_observable_counter(
        "spillway.cache.unreadable",
        callbacks=[lambda _: [Observation(sum(each.unreadable for each in counting))]],
        description="Stored questions, answers and vectors that no key opened, and histories of invalidations.",
    )


def _snapshots(loaded: Loaded, threads: ThreadPoolExecutor) -> Snapshots | None:
    """Only a shared store outlives this process with more than its own index; and what it seals must not lie in the
    clear here, nor stay from an earlier run."""
    settings = loaded.settings.cache
    if settings.store != "redis" or not settings.snapshot_dir:
        return None
    directory = Path(settings.snapshot_dir).expanduser()
    if not settings.prompt_key_file:
        return Snapshots(directory, threads)
    try:
        remove_snapshot(directory)
    except OSError as error:
        problem = f"{directory}: what an earlier run left there in the clear cannot be removed ({error.strerror})"
        raise ConfigError(loaded.path, [Problem(0, "cache.snapshot_dir", problem)]) from error
    return None


GARBAGE_THRESHOLDS = (700, 10, 1_000)
"""Objects, and collections, until the next wider one. What calls leave behind in cycles is found young; what is kept of
questions has none, and to look through all of it takes 0.1 to 0.3 s, in which no lookup is answered."""


async def _build_process(loaded: Loaded) -> Service:
    """For a process of its own, whose memory is what was loaded: the garbage collector leaves that alone from then on,
    and while it is loaded. Of 100,000 entries a full collection takes 0.1 s, in which no lookup is answered."""
    gc.collect()
    gc.disable()
    service = await build(loaded)
    warm = service.warm

    async def settle() -> None:
        if warm is not None:
            await warm()
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        gc.enable()

    return replace(service, warm=settle)


if __name__ == "__main__":
    run("cache", _build_process)
