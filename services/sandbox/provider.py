"""Plays a model provider: takes a call in either wire format, follows the script, answers from the recording.

Both wires share one recording, one script and one journal. A client that leaves ends its call at once, whatever it was
waiting for, and the journal says so. Faults happen to the call that the script names and to no other.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Final, Protocol

from starlette.types import Receive, Scope, Send

from services.sandbox.answers import AnswerMaker
from services.sandbox.journal import Journal
from services.sandbox.replay import Replay
from services.sandbox.response import ClientGoneError, HangUpError, Pace, Response, hang_up, read_body
from services.sandbox.script import Playback, Script, Step
from services.sandbox.wire import BODY_BYTES_MAX, Answer, ApiError, Call, Stage, Wire, encode_json

__all__ = ["Endpoint", "Maker", "Provider"]

CHUNK_CHARS: Final = 32
"""Characters per content chunk unless the script says otherwise."""

_GARBAGE: Final = b"\x00\xff\xfe\x80\xc3\x28\r\n\n\n\xf0\x28\x8c\x28{\xa0\xa1\n\n"
"""Neither JSON nor an event nor UTF-8."""
_EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
_TOLD_TO_FAIL: Final = "The sandbox was told to fail here."


class Maker(Protocol):
    """Makes answers."""

    def make(self, call: Call, step: Step, *, answer_id: str, tool_call_id_prefix: str) -> Answer:
        """Put an answer together. Raises ApiError."""
        ...


class Provider:
    """What the endpoints share. One event loop owns it."""

    def __init__(
        self,
        replay: Replay,
        count_tokens: Callable[[str], int],
        *,
        examples_mode: bool,
        script: Script,
        clock: Callable[[], float],
    ) -> None:
        """Build it. `clock` gives Unix seconds. In examples mode unknown prompts get a canned answer."""
        self.replay = replay
        self.playback = Playback(script)
        self.journal = Journal(clock)
        self.answers = AnswerMaker(replay, count_tokens, examples_mode=examples_mode, clock=clock)
        self._request_numbers = itertools.count(1)

    def new_request_id(self) -> str:
        """Name a request; every response says its request's name."""
        return f"req_sandbox_{next(self._request_numbers)}"


class Endpoint:
    """The ASGI endpoint of one wire."""

    def __init__(self, provider: Provider, wire: Wire, answers: Maker | None = None) -> None:
        """Serve `provider` in the format `wire`, with its answers unless others are given."""
        self._provider = provider
        self._wire = wire
        self._answers = answers or provider.answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        request_id = self._provider.new_request_id()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        own_headers = {self._wire.request_id_header: request_id}
        try:
            body = await read_body(receive, BODY_BYTES_MAX)
            call = self._wire.parse(headers, body)
        except ClientGoneError:
            return
        except ApiError as error:
            await Response(send, own_headers).send_whole(
                error.status, encode_json(self._wire.error_body(error, request_id))
            )
            return
        record = self._provider.journal.open(self._wire.name, call, headers, len(body))
        response = Response(send, own_headers, record)
        exchange = _Exchange(self._provider, self._wire, self._answers, call, response, request_id)
        work = asyncio.create_task(
            exchange.run(self._wire.api_key(headers), f"{self._wire.answer_id_prefix}{record.seq}")
        )
        gone = asyncio.create_task(_until_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not response.complete:
                record.cancelled = True
                return
            await work
        except HangUpError:
            hang_up(scope, sending_side_only=exchange.step.half_close)
            await gone  # a server that sees the endpoint return without a response would send one
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


class _Exchange:
    """One call that was understood, and its response."""

    def __init__(
        self, provider: Provider, wire: Wire, answers: Maker, call: Call, response: Response, request_id: str
    ) -> None:
        self._provider = provider
        self._wire = wire
        self._answers = answers
        self._call = call
        self._response = response
        self._request_id = request_id
        self.step = Step()

    async def run(self, api_key: str | None, answer_id: str) -> None:
        """Play the step that serves this call. Raises HangUpError where the connection is to be closed."""
        call, wire, response = self._call, self._wire, self._response
        playback = self._provider.playback
        try:
            if playback.script.api_key not in (None, api_key):
                raise ApiError(401, "Incorrect API key provided.")
            self.step = step = playback.next_step(call.model) or self.step
            response.pace = Pace.of(step)
            response.add_headers(step.headers)
            await asyncio.sleep(step.latency_s)
            if step.hang:
                await asyncio.Event().wait()
            if step.disconnect:
                raise HangUpError
            if step.status is not None:
                raise self._scripted_error(step.status)
            answer = self._answers.make(call, step, answer_id=answer_id, tool_call_id_prefix=wire.tool_call_id_prefix)
        except ApiError as error:
            if self.step.retry_after_s is not None:
                # Whole seconds as the standard has them; a fraction, which tests want, as it is.
                response.add_headers({"retry-after": f"{self.step.retry_after_s:g}"})
            body = encode_json(wire.error_body(error, self._request_id))
            await response.send_whole(error.status, wire.broken_json if self.step.malformed_json else body)
            return
        if step.garbage:
            await response.send_whole(200, _GARBAGE, _EVENT_STREAM if call.stream else "application/json")
        elif call.stream:
            await self._stream(answer)
        else:
            body = encode_json(wire.answer_body(answer))
            await response.send_whole(200, wire.broken_json if step.malformed_json else body)

    async def _stream(self, answer: Answer) -> None:
        step, wire, response = self.step, self._wire, self._response
        await response.start(200, _EVENT_STREAM)
        if step.malformed_json:
            await response.write(wire.broken_stream())
            await response.end()
            return
        breaks = (step.stream_error_after_chunks, step.stream_cut_after_chunks, step.stream_garbage_after_chunks)
        break_after_chunks = next((chunks for chunks in breaks if chunks is not None), None)
        chunks = 0
        for frame in wire.frames(answer, self._call, step.chunk_chars or CHUNK_CHARS):
            if break_after_chunks is not None and (
                frame.stage is Stage.END or (frame.stage is Stage.CONTENT and chunks == break_after_chunks)
            ):
                break
            if frame.stage is Stage.CONTENT:
                chunks += 1
                if not step.drip:
                    await asyncio.sleep(step.chunk_delay_s)
            await response.write(frame.data)
        if step.stream_cut_after_chunks is not None:
            raise HangUpError
        if step.stream_error_after_chunks is not None:
            await response.write(wire.error_frame(self._scripted_error(500), self._request_id))
        if step.stream_garbage_after_chunks is not None:
            await response.write(_GARBAGE)
        await response.end()

    def _scripted_error(self, status: int) -> ApiError:
        step = self.step
        return ApiError(status, step.error_message or _TOLD_TO_FAIL, kind=step.error_type, code=step.error_code)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
