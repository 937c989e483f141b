"""Whatever bytes are sent to a real server: the right status and reason, no text from inside, and it still serves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spillway.v1 import executor_pb2 as pb
from tests.support import toy
from tests.support.processes import Process

METHODS = [f"/{toy.NAME}/Execute", f"/{toy.NAME}/StreamExecute"]
MESSAGE_BYTES_MAX = 65_536
EXPECTED = {
    "MALFORMED_MESSAGE": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_SCHEMA": grpc.StatusCode.INVALID_ARGUMENT,
    "MESSAGE_TOO_LARGE": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "NOT_IMPLEMENTED": grpc.StatusCode.UNIMPLEMENTED,
}
PUBLIC = {
    "MALFORMED_MESSAGE": "the message cannot be read: broken encoding or invalid UTF-8",
    "INVALID_FIELD": "the request has invalid fields",
    "INVALID_SCHEMA": "the request has invalid fields",
    "MESSAGE_TOO_LARGE": "the message is larger than the server accepts",
    "NOT_IMPLEMENTED": "the method is not part of this version",
}


class Server:
    def __init__(self, process: Process, address: str) -> None:
        self.process = process
        self.channel = grpc.insecure_channel(address)

    def send(self, method: str, raw: bytes) -> str:
        """The reason of the error, "" for OK; everything that holds for any answer is checked."""
        start: Any = self.channel.unary_stream(method)
        call = start(raw, timeout=30, wait_for_ready=True)
        try:
            for _ in call:
                pass
        except grpc.RpcError:
            return self._reason(call)
        return ""

    def _reason(self, call: Any) -> str:
        details = dict(call.trailing_metadata())["grpc-status-details-bin"]
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in status_pb2.Status.FromString(details).details)
        reason: str = info.reason
        assert call.code() is EXPECTED[reason], (call.code(), reason)
        assert call.details() == PUBLIC[reason]
        assert b"Traceback" not in details
        assert b".py" not in details
        return reason


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("doors")
    toy.settings(folder, f"limits: {{message_bytes_max: {MESSAGE_BYTES_MAX}, drain_s: 0, grace_s: 1}}\n")
    config = str(folder / "spillway.yaml")
    process = Process("tests.support.toy", ["--config", config, "--listen", "127.0.0.1:0"], {}, folder / "log")
    try:
        it = Server(process, process.ready()["listen"])
        yield it
        assert it.send(METHODS[0], good().SerializeToString()) == ""  # still serves
        lines = [json.loads(line) for line in process.log().splitlines()]
        assert [line for line in lines if line["level"] == "error"] == []
        it.channel.close()
    finally:
        assert process.stop() == 0


def good() -> pb.ExecuteRequest:
    request = pb.ExecuteRequest()
    message = request.chat.messages.add(role=2)
    message.parts.add(text="Hello")
    tier = request.plan.tiers.add(name="simple", targets=["small-1"])
    tier.attempt_timeout.seconds = 5
    return request


def wrapped(method: str, raw: bytes) -> bytes:
    """`raw` as the request of `method`: StreamExecute has it in its first field."""
    if method.endswith("StreamExecute"):
        request = pb.StreamExecuteRequest()
        head = request.DESCRIPTOR.fields_by_name["request"].number << 3 | 2
        length, size = len(raw), bytearray()
        while length > 0x7F:
            size.append(length & 0x7F | 0x80)
            length >>= 7
        return bytes([head, *size, length]) + raw
    return raw


QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(QUICK, max_examples=40)
methods = st.sampled_from(METHODS)


@QUICK
@given(method=methods, raw=st.binary(max_size=200))
@example(method=METHODS[0], raw=b"")
@example(method=METHODS[0], raw=b"\x0b" * 50_000)  # groups, nested without end
@example(method=METHODS[0], raw=b"\x0a\xff\xff\xff\xff\x0f")  # a length beyond the message
@example(method=METHODS[1], raw=b"\x80" * 100)
def test_random_bytes_are_malformed_or_invalid(server: Server, method: str, raw: bytes) -> None:
    # No 200 bytes without structure are a message and a plan.
    assert server.send(method, raw) in {"MALFORMED_MESSAGE", "INVALID_FIELD"}


@QUICK
@given(method=methods, data=st.data())
def test_a_damaged_request_is_answered_as_what_it_became(server: Server, method: str, data: st.DataObject) -> None:
    raw = bytearray(good().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        pb.ExecuteRequest.FromString(bytes(raw))
        expected = {"", "INVALID_FIELD"}
    except Exception:  # noqa: BLE001 - whatever the parser says, it is no message
        expected = {"MALFORMED_MESSAGE"}
    assert server.send(method, wrapped(method, bytes(raw))) in expected


@FEW
@given(method=methods, text=st.binary(min_size=1, max_size=20))
def test_a_text_that_is_no_utf8_is_malformed(server: Server, method: str, text: bytes) -> None:
    request = good()
    request.chat.messages[0].parts[0].text = "x" * len(text)
    raw = request.SerializeToString().replace(b"x" * len(text), text)
    try:
        text.decode()
        expected = ""
    except UnicodeDecodeError:
        expected = "MALFORMED_MESSAGE"
    assert server.send(method, wrapped(method, raw)) == expected


NUMBERS = st.integers(-(2**31), 2**31 - 1).filter(lambda number: not 0 <= number <= 20)


@FEW
@given(
    method=methods,
    number=NUMBERS,
    place=st.sampled_from(["role", "strategy", "task_type", "kind", "mode", "normalizer"]),
)
def test_an_unknown_enum_number_is_an_invalid_field(server: Server, method: str, number: Any, place: str) -> None:
    request = good()
    match place:
        case "role":
            request.chat.messages[0].role = number
        case "strategy":
            request.plan.strategy = number
        case "task_type":
            request.task_type = number
        case "kind":
            request.chat.response_format.kind = number
        case "mode":
            request.chat.tool_choice.mode = number
        case "normalizer":
            request.plan.tiers[0].gates.add().agreement.normalizer = number
    assert server.send(method, wrapped(method, request.SerializeToString())) == "INVALID_FIELD"


@FEW
@given(method=methods, depth=st.integers(33, 20_000), opening=st.sampled_from(["[", '{"a":']), closed=st.booleans())
def test_a_deep_schema_is_an_invalid_schema(
    server: Server, method: str, depth: int, opening: str, closed: bool
) -> None:
    depth = min(depth, 60_000 // len(opening) // 2)
    closing = ("]" if opening == "[" else "}") * depth if closed else ""
    request = good()
    request.chat.response_format.kind = 3  # type: ignore[assignment]
    request.chat.response_format.schema_json = '{"x":' + opening * depth + "1" + closing + "}"
    raw = wrapped(method, request.SerializeToString())
    assert server.send(method, raw) == ("MESSAGE_TOO_LARGE" if len(raw) > MESSAGE_BYTES_MAX else "INVALID_SCHEMA")


@FEW
@given(method=methods, temperature=st.floats().filter(lambda number: not 0 <= number <= 2))
def test_an_absurd_parameter_is_an_invalid_field(server: Server, method: str, temperature: float) -> None:
    request = good()
    request.chat.generation.temperature = temperature
    assert server.send(method, wrapped(method, request.SerializeToString())) == "INVALID_FIELD"


@settings(FEW, max_examples=15)
@given(method=methods, extra=st.integers(0, 900_000))
def test_an_oversize_message_is_too_large(server: Server, method: str, extra: int) -> None:
    request = good()
    request.chat.messages[0].parts[0].text = "x" * (MESSAGE_BYTES_MAX + extra)
    assert server.send(method, wrapped(method, request.SerializeToString())) == "MESSAGE_TOO_LARGE"


@FEW
@given(name=st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=20), raw=st.binary(max_size=50))
def test_a_method_that_does_not_exist_is_not_implemented(server: Server, name: str, raw: bytes) -> None:
    assert server.send(f"/{toy.NAME}/X{name}", raw) == "NOT_IMPLEMENTED"


def test_a_good_request_is_answered(server: Server) -> None:
    """Without it the tests above would pass on a server that refuses everything."""
    for method in METHODS:
        assert server.send(method, wrapped(method, good().SerializeToString())) == ""
