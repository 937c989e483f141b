"""Jobs in Redis: shared by all orchestrators, and as durable as that Redis is. See JobStore, and `redis_scripts`.

Each step is one script and one round trip; one that is not answered in time is JobStoreError, and may have happened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from services.orchestrator.guarded_redis import GuardedRedis, RedisGoneError
from services.orchestrator.jobs import redis_scripts as scripts
from services.orchestrator.jobs.job_store import (
    DELIVERIES_MAX,
    LATE,
    LOST,
    Ending,
    JobStoreError,
    NewJob,
    Notice,
    SubmissionConflictError,
    TakenJob,
    TooManyJobsError,
)
from services.runtime.clock import Clock
from services.runtime.logs import get_logger
from services.runtime.redis_places import RedisPlaces
from spillway.routing import Completion, Job, JobState, JobSubmission, WebhookDelivery
from spillway.v1 import orchestrator_pb2
from spillway.wire import (
    WireError,
    completion_from_proto,
    completion_to_proto,
    job_submission_from_proto,
    job_submission_to_proto,
)

__all__ = ["RedisJobStore"]

_log = get_logger(__name__)

LOOK_MAX: Final = 100
"""Jobs that one step may end or put back for their time."""

# What a job is read from. KEYS: the prefix. ARGV: tenant or "" for any, ids.
_READ: Final = """
local jobs = {}
for i = 2, #ARGV do
  local row = redis.call('HMGET', KEYS[1] .. 'job:' .. ARGV[i], 'state', 'tenant', 'tries', 'submitted', 'changed',
    'expires', 'reason', 'message', 'completion', 'deliveries', 'url', 'trace')
  if row[1] and (ARGV[1] == '' or row[2] == string.sub(ARGV[1], 2)) then
    for j = 1, 12 do row[j] = row[j] or '' end
    jobs[#jobs + 1] = {ARGV[i], row}
  end
end
return jobs
"""
# ARGV: count. Jobs that failed, and are remembered.
_DEAD: Final = "return redis.call('ZREVRANGE', KEYS[1] .. 'dead', 0, ARGV[1] - 1)"

_OPEN: Final = "return redis.call('ZCARD', KEYS[1] .. 'open')"


class RedisJobStore:
    """`redis` decodes no responses; who made it closes it. `places`: see GuardedRedis."""

    def __init__(self, redis: Redis, *, timeout_s: float, clock: Clock, places: RedisPlaces | None = None) -> None:
        self._redis = GuardedRedis(redis, timeout_s=timeout_s, clock=clock, places=places)
        script = self._redis.script
        self._submit, self._take, self._renew = script(scripts.SUBMIT), script(scripts.TAKE), script(scripts.RENEW)
        self._cancel, self._end, self._later = script(scripts.CANCEL), script(scripts.END), script(scripts.RETRY_LATER)
        self._give_back, self._read, self._dead = script(scripts.GIVE_BACK), script(_READ), script(_DEAD)
        self._due, self._delivered = script(scripts.DUE_NOTICES), script(scripts.DELIVERED)
        self._open = script(_OPEN)

    async def submit(self, new: NewJob, *, open_max: int, tenant_max: int | None = None) -> Job:
        submission = new.submission
        request_id = submission.request.request_id
        reply: bytes = await self._run(
            self._submit,
            new.job_id,
            _request_hash(new.tenant, request_id) if request_id else "",
            new.digest,
            open_max,
            _ms(new.timeout_s),
            _ms(new.result_ttl_s),
            job_submission_to_proto(submission).SerializeToString(),
            new.key_id,
            submission.webhook_url,
            new.tenant,
            open_max if tenant_max is None else tenant_max,
            new.trace_parent,
        )
        word, _, job_id = reply.decode("ascii").partition(" ")
        if word == "conflict":
            raise SubmissionConflictError
        if word == "full":
            raise TooManyJobsError
        job = await self.get(job_id, new.tenant)
        if job is None:
            raise JobStoreError("what was submitted is gone")
        return job

    async def get(self, job_id: str, tenant: str) -> Job | None:
        rows = await self._rows([job_id], tenant=tenant)
        return _job(job_id, rows[0][1]).job if rows else None

    async def cancel(self, job_id: str, tenant: str) -> Job | None:
        return await self.get(job_id, tenant) if await self._run(self._cancel, job_id, tenant) else None

    async def take(self, owner: str, count: int, *, lease_s: float, tries_max: int) -> list[TakenJob]:
        limits = (count, _ms(lease_s), tries_max, LOOK_MAX)
        rows = await self._run(self._take, owner, *limits, LATE.reason, LATE.message, LOST.reason, LOST.message)
        taken: list[TakenJob] = []
        for job_id, tries, remaining_ms, key_id, raw, trace in rows:
            submission = _submission(raw)
            if submission is None:
                continue  # of a newer version: when the lease has lapsed, somebody newer may take it
            taken.append(
                TakenJob(
                    job_id=job_id.decode(),
                    tenant=submission.request.tenant,
                    key_id=key_id.decode(),
                    submission=submission,
                    tries=int(tries),
                    remaining_s=int(remaining_ms) / 1_000,
                    trace_parent=trace.decode(),
                )
            )
        return taken

    async def renew(self, owners: Mapping[str, str]) -> set[str]:
        pairs = [word for pair in owners.items() for word in pair]
        return {job_id.decode() for job_id in await self._run(self._renew, *pairs)} if pairs else set()

    async def end(self, job_id: str, owner: str, ending: Ending) -> bool:
        completion = completion_to_proto(ending.completion).SerializeToString() if ending.completion else b""
        what = (ending.state.value, completion, ending.reason, ending.message)
        return bool(await self._run(self._end, job_id, owner, *what))

    async def retry_later(self, job_id: str, owner: str, delay_s: float) -> bool:
        return bool(await self._run(self._later, job_id, owner, _ms(delay_s)))

    async def give_back(self, job_id: str, owner: str) -> bool:
        return bool(await self._run(self._give_back, job_id, owner))

    async def due_notices(self, count: int, *, lease_s: float) -> list[Notice]:
        ids = await self._run(self._due, count, _ms(lease_s))
        return await self._readable(ids)

    async def delivered(self, job_id: str, delivery: WebhookDelivery | None, *, again_in_s: float | None) -> None:
        line = f"{delivery.at_unix_s:.3f} {delivery.status} {delivery.error}\n" if delivery else ""
        await self._run(self._delivered, job_id, line, "" if again_in_s is None else _ms(again_in_s))

    async def open_jobs(self) -> int:
        return int(await self._run(self._open))

    async def dead_letters(self, count: int) -> Sequence[Job]:
        return [each.job for each in await self._readable(await self._run(self._dead, count))]

    async def _readable(self, ids: Sequence[str | bytes]) -> list[Notice]:
        """Of jobs of any tenant those that this version can read; one that it cannot keeps nobody else waiting."""
        found = []
        for job_id, row in await self._rows(ids):
            try:
                found.append(_job(job_id.decode(), row))
            except JobStoreError as error:
                _log.warning("job_not_read", job_id=job_id.decode(), error=str(error))
        return found

    async def _rows(self, ids: Sequence[str | bytes], *, tenant: str | None = None) -> list[tuple[bytes, list[bytes]]]:
        """Of those that exist; `tenant` None is for any."""
        if not ids:
            return []
        rows: list[tuple[bytes, list[bytes]]] = await self._run(
            self._read, "" if tenant is None else f"={tenant}", *ids
        )
        return rows

    async def _run(self, script: AsyncScript, *args: str | bytes | int) -> Any:
        try:
            return await self._redis.run(script, [scripts.PREFIX], args)
        except RedisGoneError as error:
            raise JobStoreError(str(error)) from error


def _job(job_id: str, row: Sequence[bytes]) -> Notice:
    """Raises JobStoreError."""
    state, tenant, tries, submitted, changed, expires, reason, message, completion, deliveries, url, trace = row
    job = Job(
        job_id=job_id,
        state=JobState(state.decode()),
        completion=_completion(completion) if completion else None,
        error_reason=reason.decode(),
        error_message=message.decode(),
        tries=int(tries),
        submitted_at_unix_s=int(submitted) / 1_000,
        changed_at_unix_s=int(changed) / 1_000,
        expires_at_unix_s=int(expires) / 1_000 if expires else None,
        deliveries=tuple(_delivery(line) for line in deliveries.decode().splitlines()[-DELIVERIES_MAX:]),
    )
    return Notice(job, url.decode(), tenant.decode(), trace.decode())


def _delivery(line: str) -> WebhookDelivery:
    at, status, error = line.split(" ", 2)
    return WebhookDelivery(float(at), int(status), error)


def _completion(raw: bytes) -> Completion:
    try:
        return completion_from_proto(orchestrator_pb2.Completion.FromString(raw))
    except (DecodeError, WireError) as error:
        raise JobStoreError("the answer is of a newer version") from error


def _submission(raw: bytes) -> JobSubmission | None:
    try:
        return job_submission_from_proto(orchestrator_pb2.SubmitJobRequest.FromString(raw))
    except (DecodeError, WireError):
        return None


def _request_hash(tenant: str, request_id: str) -> str:
    encoded = f"{len(tenant)}:{tenant}{request_id}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(encoded).hexdigest()[:40]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1_000))
