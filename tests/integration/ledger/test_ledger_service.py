"""The ledger behind gRPC, over either database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.ledger.__main__ import build
from services.runtime.config import ConfigError, load
from spillway import wire
from spillway.failure import read_failure
from spillway.routing import Feedback, FeedbackKind, GradeSource, TaskType
from spillway.v1 import ledger_pb2, ledger_pb2_grpc, orchestrator_pb2
from tests.support.ledger_process import LedgerProcess
from tests.support.ledger_records import grade, record_pb
from tests.support.postgres import PostgresServer
from tests.support.processes import wait_until

Stub = ledger_pb2_grpc.LedgerServiceStub
WINDOW = Duration(seconds=3_650 * 86_400)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    folder = tmp_path_factory.mktemp("ledger")
    url = f"sqlite:///{folder}/ledger.sqlite"
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.new_database()
    # Longer than it takes: what was recorded in these tests is of a fixed day.
    with LedgerProcess(folder, url, retention_days=3_650) as ledger, ledger.channel() as channel:
        yield ledger.stub(channel)


def refused(call: object, request: object) -> tuple[grpc.StatusCode, list[str]]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)  # type: ignore[operator]
    failure = read_failure(caught.value)
    return caught.value.code(), [path for path, _ in failure.violations]


def test_a_decision_is_found_with_what_was_said_of_it_and_without_comments(stub: Stub) -> None:
    given = record_pb("life")
    stub.RecordDecisions(ledger_pb2.RecordDecisionsRequest(records=[given, record_pb("other")]), timeout=10)
    down = wire.feedback_to_proto(Feedback("life", "acme", FeedbackKind.THUMBS_DOWN, "my comment"))
    request = ledger_pb2.RecordFeedbackRequest(feedback=down, feedback_id="f-life")
    request.received_at.seconds = 1_790_000_001
    response = stub.RecordFeedback(request, timeout=10)
    assert response.decision == given
    one = wire.grade_to_proto(grade("g-life", request_id="life"))
    stub.RecordGrades(ledger_pb2.RecordGradesRequest(grades=[one]), timeout=10)
    found = stub.GetDecision(ledger_pb2.GetDecisionRequest(request_id="life", tenant="acme"), timeout=10)
    assert found.decision == given
    assert [(each.kind, each.comment) for each in found.feedback] == [(down.kind, "")]
    assert list(found.grades) == [one]
    assert refused(stub.GetDecision, ledger_pb2.GetDecisionRequest(request_id="life", tenant="mallory")) == (
        grpc.StatusCode.NOT_FOUND,
        [],
    )


def test_feedback_about_what_is_not_known_yet_is_kept(stub: Stub) -> None:
    up = wire.feedback_to_proto(Feedback("early", "acme", FeedbackKind.THUMBS_UP))
    request = ledger_pb2.RecordFeedbackRequest(feedback=up, feedback_id="f-early")
    request.received_at.seconds = 1_790_000_001
    assert not stub.RecordFeedback(request, timeout=10).HasField("decision")
    stub.RecordDecisions(ledger_pb2.RecordDecisionsRequest(records=[record_pb("early")]), timeout=10)
    found = stub.GetDecision(ledger_pb2.GetDecisionRequest(request_id="early", tenant="acme"), timeout=10)
    assert len(found.feedback) == 1


def test_quality_is_measured_in_the_window_that_is_asked_for(stub: Stub) -> None:
    grades = [wire.grade_to_proto(grade(f"q{number}", task_type=TaskType.CODE, target="q")) for number in range(40)]
    stub.RecordGrades(ledger_pb2.RecordGradesRequest(grades=grades), timeout=10)
    measured = stub.MeasureQuality(ledger_pb2.MeasureQualityRequest(window=WINDOW), timeout=10).qualities
    (quality,) = [wire.measured_quality_from_proto(each) for each in measured if each.target == "q"]
    assert (quality.task_type, quality.grades, quality.mean, quality.flagship_mean) == (TaskType.CODE, 40, 0.75, 1.0)
    assert 0.65 < quality.ratio_lower < 0.75


def test_a_batch_with_one_wrong_record_is_refused_by_name_and_leaves_nothing(stub: Stub) -> None:
    wrong = record_pb("wrong")
    wrong.cost.cost_nanousd = -1
    batch = ledger_pb2.RecordDecisionsRequest(records=[record_pb("right"), wrong])
    assert refused(stub.RecordDecisions, batch) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        ["records[1].cost.cost_nanousd"],
    )
    code, _ = refused(stub.GetDecision, ledger_pb2.GetDecisionRequest(request_id="right", tenant="acme"))
    assert code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("count", [0, 1_001])
def test_batches_are_of_1_to_1000(stub: Stub, count: int) -> None:
    records = ledger_pb2.RecordDecisionsRequest(records=[ledger_pb2.DecisionRecord()] * count)
    assert refused(stub.RecordDecisions, records) == (grpc.StatusCode.INVALID_ARGUMENT, ["records"])
    grades = ledger_pb2.RecordGradesRequest(grades=[ledger_pb2.Grade()] * count)
    assert refused(stub.RecordGrades, grades) == (grpc.StatusCode.INVALID_ARGUMENT, ["grades"])


def test_feedback_grades_and_windows_out_of_their_ranges_are_refused_by_name(stub: Stub) -> None:
    up = wire.feedback_to_proto(Feedback("r", "acme", FeedbackKind.THUMBS_UP))
    no_time = ledger_pb2.RecordFeedbackRequest(feedback=up, feedback_id="f")
    assert refused(stub.RecordFeedback, no_time)[1] == ["received_at"]
    no_id = ledger_pb2.RecordFeedbackRequest(feedback=up)
    assert refused(stub.RecordFeedback, no_id)[1] == ["feedback_id"]
    long = orchestrator_pb2.SendFeedbackRequest(request_id="r", kind=up.kind, comment="c" * 2_001)
    assert refused(stub.RecordFeedback, ledger_pb2.RecordFeedbackRequest(feedback=long, feedback_id="f"))[1] == [
        "feedback.comment"
    ]
    assert refused(stub.RecordFeedback, ledger_pb2.RecordFeedbackRequest(feedback_id="f"))[1] == ["feedback.kind"]
    high = wire.grade_to_proto(grade("g", score=1.5))
    assert refused(stub.RecordGrades, ledger_pb2.RecordGradesRequest(grades=[high]))[1] == ["grades[0].score"]
    undated = wire.grade_to_proto(grade("g"))
    undated.ClearField("graded_at")
    assert refused(stub.RecordGrades, ledger_pb2.RecordGradesRequest(grades=[undated]))[1] == ["grades[0].graded_at"]
    audit = wire.grade_to_proto(grade("g", source=GradeSource.AUDIT))
    assert refused(stub.RecordGrades, ledger_pb2.RecordGradesRequest(grades=[audit]))[1] == ["grades[0].outcome"]
    longer = ledger_pb2.MeasureQualityRequest(flagship_target="x" * 500)
    assert refused(stub.MeasureQuality, longer)[1] == ["flagship_target"]
    window = ledger_pb2.MeasureQualityRequest(window=Duration(seconds=-1))
    assert refused(stub.MeasureQuality, window)[1] == ["window"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:////proc/no/ledger.sqlite", "cannot be written"),
        ("postgresql+asyncpg://me@host/name", "postgresql+asyncpg is not known"),
        ("postgresql://me:secret@host/name", "must not contain a password"),
    ],
)
async def test_a_database_that_cannot_be_meant_ends_the_start_and_says_why(tmp_path: Path, url: str, says: str) -> None:
    loaded = load(LedgerProcess(tmp_path, url).config)
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        await build(loaded)
    assert "secret" not in str(caught.value)


def test_while_the_database_is_away_at_the_start_it_says_not_serving(tmp_path: Path) -> None:
    ledger = LedgerProcess(tmp_path, f"postgresql://postgres@/name?host={tmp_path}")
    ledger.address = f"unix:{tmp_path}/l"
    ledger.launch()
    try:
        with ledger.channel() as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="spillway.v1.LedgerService")

            def status() -> int | None:
                try:
                    return int(stub.Check(request, timeout=5).status)
                except grpc.RpcError:
                    return None

            wait_until(lambda: status() == health_pb2.HealthCheckResponse.NOT_SERVING, what="NOT_SERVING")
            wait_until(lambda: "ledger_database_away" in ledger.log(), what="a line that says why")
    finally:
        assert ledger.process is not None
        assert ledger.process.stop() == 0
