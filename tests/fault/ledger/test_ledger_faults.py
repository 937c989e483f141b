"""The ledger killed, frozen and slow: what it acknowledged is there, and nobody waits for it."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from services.ledger.__main__ import WRITES_WAITING_MAX
from services.orchestrator.grpc_ledger import GrpcLedger
from services.orchestrator.ledger_hop import QualityQuestion
from services.orchestrator.ledger_reporter import LedgerReporter
from services.runtime.channel import open_channel
from services.runtime.clock import SystemClock
from services.runtime.errors import SpillwayError
from spillway.routing import Feedback, FeedbackKind
from spillway.v1 import ledger_pb2
from tests.support.ledger_process import LedgerProcess
from tests.support.ledger_records import NOW, record, record_pb
from tests.support.postgres import PostgresServer
from tests.support.processes import wait_until
from tests.support.waiting import until

ROUNDS = int(os.environ.get("SPILLWAY_KILL_ROUNDS", "2"))
WRITERS = 3
BATCH = 20


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()


class Writing:
    """Threads that send batches, each of its own, until they are told to stop or the ledger is gone."""

    def __init__(self, ledger: LedgerProcess, name: str) -> None:
        self.acknowledged: list[str] = []
        self.unsure: list[str] = []
        self._ledger = ledger
        self._numbers = (f"{name}-{number}" for number in itertools.count())
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._ledger.channel() as channel:
            stub = self._ledger.stub(channel)
            while True:
                with self._lock:
                    batch = next(self._numbers)
                records = [record_pb(f"{batch}-{number}") for number in range(BATCH)]
                try:
                    stub.RecordDecisions(ledger_pb2.RecordDecisionsRequest(records=records), timeout=20)
                except grpc.RpcError:
                    self.unsure.append(batch)
                    return
                self.acknowledged.append(batch)


@pytest.mark.slow
def test_no_acknowledged_batch_is_lost_and_none_is_there_in_part_after_kills(tmp_path: Path, url: str) -> None:
    rounds = []
    with LedgerProcess(tmp_path, url) as ledger:
        for number in range(ROUNDS):
            writing = Writing(ledger, f"round{number}")
            with ThreadPoolExecutor(WRITERS) as pool:
                sending = [pool.submit(writing) for _ in range(WRITERS)]
                wait_until(lambda: len(writing.acknowledged) >= 5, what="five batches")  # noqa: B023 - called here
                ledger.kill()
                for each in sending:
                    each.result()
            assert len(writing.unsure) == WRITERS
            rounds.append(writing)
            ledger.start()
        with ledger.channel() as channel:
            stub = ledger.stub(channel)

            def known(request_id: str) -> bool:
                try:
                    stub.GetDecision(ledger_pb2.GetDecisionRequest(request_id=request_id, tenant="acme"), timeout=20)
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.NOT_FOUND:
                        raise
                    return False
                return True

            for writing in rounds:
                for batch in writing.acknowledged:
                    assert all(known(f"{batch}-{number}") for number in range(BATCH)), batch
                for batch in writing.unsure:
                    assert len({known(f"{batch}-{number}") for number in range(BATCH)}) == 1, batch


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes to the file, and does not end."""
    other = sqlite3.connect(path, isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_more_than_can_be_written_is_refused_at_once_and_reads_go_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with LedgerProcess(tmp_path, f"sqlite:///{path}") as ledger, ledger.channel() as channel:
        stub = ledger.stub(channel)

        def send(number: int) -> grpc.StatusCode:
            request = ledger_pb2.RecordDecisionsRequest(records=[record_pb(f"r{number}")])
            try:
                stub.RecordDecisions(request, timeout=60)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
            return grpc.StatusCode.OK

        stub.RecordDecisions(ledger_pb2.RecordDecisionsRequest(records=[record_pb("before")]), timeout=20)
        callers = 2 * WRITES_WAITING_MAX
        with ThreadPoolExecutor(callers) as pool:
            with locked(path):
                ended: Counter[grpc.StatusCode] = Counter()
                sending = [pool.submit(send, number) for number in range(callers)]
                for each in sending:
                    each.add_done_callback(lambda done: ended.update([done.result()]))
                refused = grpc.StatusCode.RESOURCE_EXHAUSTED
                wait_until(lambda: ended[refused] >= callers - WRITES_WAITING_MAX - 1, what="refusals")
                assert set(ended) <= {refused, grpc.StatusCode.UNAVAILABLE}
                request = ledger_pb2.GetDecisionRequest(request_id="before", tenant="acme")
                assert stub.GetDecision(request, timeout=20).decision.request_id == "before"
            codes = Counter(each.result() for each in sending)
        assert codes[grpc.StatusCode.OK] >= 1
        assert send(1_000) is grpc.StatusCode.OK


def test_a_postgresql_that_crashes_is_unavailable_and_used_again_once_it_is_back(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    with LedgerProcess(tmp_path, postgres_server.new_database()) as ledger, ledger.channel() as channel:
        stub = ledger.stub(channel)

        def send(name: str) -> grpc.StatusCode:
            try:
                stub.RecordDecisions(ledger_pb2.RecordDecisionsRequest(records=[record_pb(name)]), timeout=20)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
            return grpc.StatusCode.OK

        assert send("before") is grpc.StatusCode.OK
        postgres_server.kill()
        try:
            assert send("during") is grpc.StatusCode.UNAVAILABLE
        finally:
            postgres_server.start()
        assert send("after") is grpc.StatusCode.OK
        request = ledger_pb2.GetDecisionRequest(request_id="before", tenant="acme")
        assert stub.GetDecision(request, timeout=20).decision.request_id == "before"


def count(path: Path) -> int:
    with sqlite3.connect(path) as session:
        return int(session.execute("SELECT count(*) FROM decisions").fetchone()[0])


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_a_ledger_that_is_gone_holds_nobody_up_and_what_is_dropped_is_counted_exactly(
    tmp_path: Path, fault: str
) -> None:
    path, room, lost = tmp_path / "ledger.sqlite", 50, list[int]()
    with LedgerProcess(tmp_path, f"sqlite:///{path}") as ledger:
        channel = open_channel(ledger.address, service_name="spillway.v1.LedgerService", message_bytes_max=8_388_608)
        hop = GrpcLedger(channel)
        reporter = LedgerReporter(hop, SystemClock(), queued_max=room, on_drop=lambda kind, number: lost.append(number))
        assert all(reporter.offer(record(f"before{number}")) for number in range(10))
        await until(lambda: reporter.records.acknowledged == 10, within_s=60.0)
        ledger.kill() if fault == "killed" else ledger.freeze()
        # No turn of the loop between them: whoever answers requests does not notice.
        taken = [reporter.offer(record(f"during{number}")) for number in range(80)]
        assert sum(taken) == room
        assert sum(lost) == 80 - room
        with pytest.raises(SpillwayError):
            await hop.record_feedback(
                Feedback("r", "acme", FeedbackKind.THUMBS_UP), feedback_id="f", received_at_unix_s=NOW, timeout_s=0.2
            )
        assert await hop.measure_quality(QualityQuestion(60.0), timeout_s=0.2) is None
        ledger.start() if fault == "killed" else ledger.thaw()
        await until(lambda: reporter.records.acknowledged == 10 + room, within_s=60.0)
        assert reporter.offer(record("after"))
        await reporter.close(30.0)
        assert sum(lost) == 80 - room
        await channel.close()
        assert await asyncio.to_thread(count, path) == 11 + room


async def test_what_a_dead_ledger_never_acknowledged_is_counted_at_the_end(tmp_path: Path) -> None:
    lost = list[int]()
    channel = open_channel("127.0.0.1:1", service_name="spillway.v1.LedgerService", message_bytes_max=8_388_608)
    reporter = LedgerReporter(
        GrpcLedger(channel), SystemClock(), queued_max=100, on_drop=lambda kind, number: lost.append(number)
    )
    for number in range(130):
        reporter.offer(record(f"r{number}"))
    await reporter.close(0.3)
    assert sum(lost) == 130
    await channel.close()
