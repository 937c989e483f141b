"""Jobs of one process, lost with it. See JobStore.

Bounded by `open_max` of those that have not ended, and by the time to live of those that have, of which the oldest go
beyond `ENDED_MAX`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.orchestrator.jobs.job_store import (
    CANCELLED,
    DEAD_MAX,
    DELIVERIES_MAX,
    LATE,
    LOST,
    Ending,
    NewJob,
    Notice,
    SubmissionConflictError,
    TakenJob,
    TooManyJobsError,
)
from services.runtime.clock import Clock
from spillway.routing import Job, JobState, WebhookDelivery

__all__ = ["MemoryJobStore"]

ENDED_MAX: Final = 10_000


@dataclass(slots=True)
class _Entry:
    new: NewJob
    job: Job
    deadline_s: float
    owner: str = ""
    lease_s: float = 0.0
    owned_until_s: float = 0.0
    due_at_s: float = 0.0
    forgotten_at_s: float | None = None
    notice_at_s: float | None = None


class MemoryJobStore:
    """For one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._requests: dict[tuple[str, str], str] = {}
        self._queue: deque[str] = deque()
        self._open: set[str] = set()
        self._open_of: Counter[str] = Counter()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._notices: set[str] = set()
        self._dead: OrderedDict[str, None] = OrderedDict()

    async def submit(self, new: NewJob, *, open_max: int, tenant_max: int | None = None) -> Job:
        self._forget_old()
        pointer = (new.tenant, new.submission.request.request_id)
        known = self._entries.get(self._requests.get(pointer, "")) if pointer[1] else None
        if known is not None:
            if known.new.digest != new.digest:
                raise SubmissionConflictError
            return known.job
        if len(self._open) >= open_max or self._open_of[new.tenant] >= (open_max if tenant_max is None else tenant_max):
            raise TooManyJobsError
        now = self._clock.unix()
        job = Job(new.job_id, JobState.QUEUED, submitted_at_unix_s=now, changed_at_unix_s=now)
        self._entries[new.job_id] = _Entry(new, job, self._clock.monotonic() + new.timeout_s)
        if pointer[1]:
            self._requests[pointer] = new.job_id
        self._open.add(new.job_id)
        self._open_of[new.tenant] += 1
        self._queue.append(new.job_id)
        return job

    async def get(self, job_id: str, tenant: str) -> Job | None:
        entry = self._find(job_id, tenant)
        return entry.job if entry else None

    async def cancel(self, job_id: str, tenant: str) -> Job | None:
        entry = self._find(job_id, tenant)
        if entry is None:
            return None
        if not entry.job.state.has_ended:
            self._end(entry, CANCELLED)
        return entry.job

    async def take(self, owner: str, count: int, *, lease_s: float, tries_max: int) -> list[TakenJob]:
        now_s = self._clock.monotonic()
        for entry in [self._entries[job_id] for job_id in self._open]:
            if entry.deadline_s <= now_s:
                self._end(entry, LATE)
            elif entry.owner and entry.owned_until_s <= now_s:
                if entry.job.tries >= tries_max:
                    self._end(entry, LOST)
                else:
                    self._put_back(entry)
        taken: list[TakenJob] = []
        for _ in range(len(self._queue)):
            if len(taken) >= count:
                break
            job_id = self._queue.popleft()
            entry = self._entries[job_id]
            if entry.due_at_s > now_s:
                self._queue.append(job_id)
                continue
            entry.owner, entry.lease_s, entry.owned_until_s = owner, lease_s, now_s + lease_s
            self._change(entry, state=JobState.RUNNING, tries=entry.job.tries + 1)
            new = entry.new
            remaining_s = entry.deadline_s - now_s
            taken.append(
                TakenJob(job_id, new.tenant, new.key_id, new.submission, entry.job.tries, remaining_s, new.trace_parent)
            )
        return taken

    async def renew(self, owners: Mapping[str, str]) -> set[str]:
        kept = {job_id for job_id, owner in owners.items() if self._owned(job_id, owner)}
        for job_id in kept:
            entry = self._entries[job_id]
            entry.owned_until_s = self._clock.monotonic() + entry.lease_s
        return kept

    async def end(self, job_id: str, owner: str, ending: Ending) -> bool:
        entry = self._owned(job_id, owner)
        if entry is not None:
            self._end(entry, ending)
        return entry is not None

    async def retry_later(self, job_id: str, owner: str, delay_s: float) -> bool:
        entry = self._owned(job_id, owner)
        if entry is not None:
            self._put_back(entry, due_at_s=self._clock.monotonic() + delay_s)
        return entry is not None

    async def give_back(self, job_id: str, owner: str) -> bool:
        entry = self._owned(job_id, owner)
        if entry is not None:
            self._put_back(entry, tries=entry.job.tries - 1)
        return entry is not None

    async def due_notices(self, count: int, *, lease_s: float) -> list[Notice]:
        self._forget_old()
        now_s = self._clock.monotonic()
        due: list[Notice] = []
        for job_id in self._notices:
            entry = self._entries[job_id]
            if entry.notice_at_s is not None and entry.notice_at_s <= now_s and len(due) < count:
                entry.notice_at_s = now_s + lease_s
                new = entry.new
                due.append(Notice(entry.job, new.submission.webhook_url, new.tenant, new.trace_parent))
        return due

    async def delivered(self, job_id: str, delivery: WebhookDelivery | None, *, again_in_s: float | None) -> None:
        entry = self._entries.get(job_id)
        if entry is None:
            return
        if delivery is not None:
            entry.job = replace(entry.job, deliveries=(*entry.job.deliveries, delivery)[-DELIVERIES_MAX:])
        entry.notice_at_s = None if again_in_s is None else self._clock.monotonic() + again_in_s
        if entry.notice_at_s is None:
            self._notices.discard(job_id)

    async def open_jobs(self) -> int:
        return len(self._open)

    async def dead_letters(self, count: int) -> Sequence[Job]:
        self._forget_old()
        return [self._entries[job_id].job for job_id in reversed(self._dead)][:count]

    def _find(self, job_id: str, tenant: str) -> _Entry | None:
        self._forget_old()
        entry = self._entries.get(job_id)
        return entry if entry is not None and entry.new.tenant == tenant else None

    def _owned(self, job_id: str, owner: str) -> _Entry | None:
        entry = self._entries.get(job_id)
        return entry if entry is not None and entry.job.state is JobState.RUNNING and entry.owner == owner else None

    def _change(self, entry: _Entry, *, state: JobState, tries: int | None = None) -> None:
        tries = entry.job.tries if tries is None else tries
        entry.job = replace(entry.job, state=state, tries=tries, changed_at_unix_s=self._clock.unix())

    def _put_back(self, entry: _Entry, *, due_at_s: float = 0.0, tries: int | None = None) -> None:
        entry.owner, entry.due_at_s = "", due_at_s
        self._change(entry, state=JobState.QUEUED, tries=tries)
        self._queue.append(entry.job.job_id)

    def _end(self, entry: _Entry, ending: Ending) -> None:
        job_id, now_s = entry.job.job_id, self._clock.monotonic()
        if entry.job.state is JobState.QUEUED:
            self._queue.remove(job_id)
        self._change(entry, state=ending.state)
        entry.job = replace(
            entry.job,
            completion=ending.completion,
            error_reason=ending.reason,
            error_message=ending.message,
            expires_at_unix_s=self._clock.unix() + entry.new.result_ttl_s,
        )
        entry.owner, entry.forgotten_at_s = "", now_s + entry.new.result_ttl_s
        self._open.discard(job_id)
        self._open_of -= Counter({entry.new.tenant: 1})
        self._ended[job_id] = None
        if entry.new.submission.webhook_url:
            entry.notice_at_s = now_s
            self._notices.add(job_id)
        if ending.state is JobState.FAILED:
            self._dead[job_id] = None
            while len(self._dead) > DEAD_MAX:
                self._dead.popitem(last=False)
        self._forget_old()

    def _forget_old(self) -> None:
        """Those whose time to live is over, and the oldest beyond the bound."""
        now_s = self._clock.monotonic()
        while self._ended:
            job_id = next(iter(self._ended))
            entry = self._entries[job_id]
            if len(self._ended) <= ENDED_MAX and (entry.forgotten_at_s or 0.0) > now_s:
                return
            del self._ended[job_id], self._entries[job_id]
            self._notices.discard(job_id)
            self._dead.pop(job_id, None)
            pointer = (entry.new.tenant, entry.new.submission.request.request_id)
            if self._requests.get(pointer) == job_id:
                del self._requests[pointer]
