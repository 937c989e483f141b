"""Plays a model provider: takes a chat completion call, follows the script, answers from the recording.

One `Provider` is one ASGI endpoint. A client that leaves ends its call at once, whatever it was waiting for, and the
journal says so. Faults happen to the call that the script names and to no other. Needs the server of
`services.sandbox.server` to close connections on purpose; everything else works on any ASGI server.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from services.sandbox.journal import CallRecord, Journal
from services.sandbox.openai_api import (
    BODY_BYTES_MAX,
    Answer,
    ApiError,
    ChatCall,
    ToolCall,
    Usage,
    answer_deltas,
    chunk_body,
    completion_body,
    encode_json,
    parse_chat_call,
    sse_event,
)
from services.sandbox.replay import Miss, Replay
from services.sandbox.rows import RecordedAnswer
from services.sandbox.script import Playback, Script, Step

__all__ = ["CLOSE_EXTENSION", "ClientGoneError", "Provider", "read_body"]

CLOSE_EXTENSION: Final = "spillway.sandbox.close"
"""ASGI scope extension: a function that closes the connection after what has been written."""

CHUNK_CHARS: Final = 32
"""Characters per content chunk unless the script says otherwise."""
DRIP_BYTES: Final = 16
"""Bytes per piece of a drip."""
DRIP_DELAY_S: Final = 0.05
"""Between the pieces of a drip unless the script gives a `chunk_delay_s`."""
EXAMPLES_CONFIDENCE: Final = 4
"""Said in examples mode by an answer that has no confidence of its own."""

_CONFIDENCE_MARKER: Final = "CONFIDENCE:"
_REFUSAL: Final = "I'm sorry, but I can't help with that."
_BROKEN_JSON: Final = b'{"id":"chatcmpl-sandbox","choices":[{"index":0,"message":{"role":"assist'
_CANNED: Final = RecordedAnswer(
    "This is Spillway's sandbox, which stands in for a model provider and has answers to a few example prompts only. "
    "To have prompts like this one answered, set a provider's base_url in spillway.yaml to OpenAI, Ollama, vLLM or any "
    "other OpenAI-compatible endpoint."
)


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class _HangUpError(Exception):
    """The script wants the connection closed here."""


class Provider:
    """The endpoint of POST /v1/chat/completions, with its script and its journal. One event loop owns it."""

    def __init__(
        self,
        replay: Replay,
        count_tokens: Callable[[str], int],
        *,
        examples_mode: bool,
        script: Script,
        clock: Callable[[], float],
    ) -> None:
        """Build it. `clock` gives Unix seconds, for `created`. In examples mode unknown prompts get a canned answer."""
        self.replay = replay
        self.playback = Playback(script)
        self.journal = Journal()
        self._count_tokens = count_tokens
        self._examples_mode = examples_mode
        self._clock = clock
        # At most one entry per recorded answer, filled as they are asked for.
        self._answer_tokens: dict[RecordedAnswer, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        try:
            body = await read_body(receive, BODY_BYTES_MAX)
            call = parse_chat_call(body)
        except ClientGoneError:
            return
        except ApiError as error:
            await _Response(send).send_json(error.status, encode_json(error.body()))
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        record = self.journal.open(call, headers, len(body))
        response = _Response(send, record)
        work = asyncio.create_task(self._answer_call(call, record, headers, response))
        gone = asyncio.create_task(_until_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and not response.complete:
                record.cancelled = True
                return
            await work
        except _HangUpError:
            _close(scope)
            await gone  # a server that sees the endpoint return without a response would send one
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _answer_call(
        self, call: ChatCall, record: CallRecord, headers: Mapping[str, str], response: "_Response"
    ) -> None:
        step = Step()
        try:
            demanded_key = self.playback.script.api_key
            if demanded_key is not None and headers.get("authorization") != f"Bearer {demanded_key}":
                raise ApiError(401, "Incorrect API key provided.")
            step = self.playback.next_step(call.model) or step
            if step.drip:
                response.drip_delay_s = step.chunk_delay_s or DRIP_DELAY_S
            await asyncio.sleep(step.latency_s)
            if step.hang:
                await asyncio.Event().wait()
            if step.disconnect:
                raise _HangUpError
            if step.status is not None:
                raise ApiError(step.status, "The sandbox was told to fail here.", code=step.error_code)
            answer = self._make_answer(call, step, f"chatcmpl-sandbox-{record.seq}")
        except ApiError as error:
            await response.send_json(
                error.status,
                _BROKEN_JSON if step.malformed_json else encode_json(error.body()),
                retry_after_s=step.retry_after_s,
            )
            return
        if call.stream:
            await self._stream(call, step, answer, response)
        else:
            await response.send_json(200, _BROKEN_JSON if step.malformed_json else encode_json(completion_body(answer)))

    async def _stream(self, call: ChatCall, step: Step, answer: Answer, response: "_Response") -> None:
        async def send_chunk(delta: Mapping[str, object] | None, finish_reason: str | None = None) -> None:
            chunk = chunk_body(answer, delta, finish_reason=finish_reason, include_usage=call.include_usage)
            await response.write(sse_event(encode_json(chunk)))

        await response.start(200, b"text/event-stream; charset=utf-8")
        if step.malformed_json:
            await response.write(sse_event(_BROKEN_JSON))
            await response.write(sse_event(b"[DONE]"))
            await response.end()
            return
        await send_chunk({"role": "assistant", "content": "" if answer.text is not None else None})
        broken_after_chunks = step.stream_error_after_chunks
        if step.stream_cut_after_chunks is not None:
            broken_after_chunks = step.stream_cut_after_chunks
        for sent, delta in enumerate(answer_deltas(answer, step.chunk_chars or CHUNK_CHARS)):
            if sent == broken_after_chunks:
                break
            if not step.drip:
                await asyncio.sleep(step.chunk_delay_s)
            await send_chunk(delta)
        if step.stream_cut_after_chunks is not None:
            raise _HangUpError
        if step.stream_error_after_chunks is not None:
            await response.write(sse_event(encode_json(ApiError(500, "The sandbox was told to fail here.").body())))
            await response.end()
            return
        await send_chunk({}, answer.finish_reason)
        if call.include_usage:
            await send_chunk(None)
        await response.write(sse_event(b"[DONE]"))
        await response.end()

    def _make_answer(self, call: ChatCall, step: Step, answer_id: str) -> Answer:
        """Put an answer together. Raises ApiError (404) when neither script nor recording has one."""
        text: str | None
        confidence = step.confidence
        if step.refusal:
            text, completion_tokens = _REFUSAL, self._count_tokens(_REFUSAL)
        elif step.empty:
            text, completion_tokens = "", 0
        elif step.text is not None:
            text, completion_tokens = step.text, self._count_tokens(step.text)
        elif step.tool_calls is not None:
            text, completion_tokens = None, 0
        else:
            recorded = self._find(call)
            text, completion_tokens = recorded.text, self._count_recorded(recorded)
            if confidence is None:
                confidence = recorded.confidence or (EXAMPLES_CONFIDENCE if self._examples_mode else None)
        if text and confidence is not None and call.system_says(_CONFIDENCE_MARKER):
            line = f"\nCONFIDENCE: {confidence}"
            text += line
            completion_tokens += self._count_tokens(line)
        tool_calls = tuple(
            ToolCall(spec.id or f"call_{answer_id}_{index}", spec.name, spec.arguments)
            for index, spec in enumerate(step.tool_calls or ())
        )
        if step.usage is not None:
            usage = Usage(step.usage.prompt_tokens, step.usage.completion_tokens)
        else:
            completion_tokens += sum(self._count_tokens(f"{tool.name} {tool.arguments}") for tool in tool_calls)
            prompt_tokens = sum(self._count_tokens(message.text) for message in call.messages)
            usage = Usage(prompt_tokens + self._count_tokens(call.tools_json), completion_tokens)
        return Answer(
            id=answer_id,
            created=int(self._clock()),
            model=call.model,
            text=text,
            tool_calls=tool_calls,
            finish_reason=step.finish_reason or ("tool_calls" if tool_calls else "stop"),
            usage=usage,
        )

    def _find(self, call: ChatCall) -> RecordedAnswer:
        found = self.replay.find(call.user_texts, call.model)
        if isinstance(found, RecordedAnswer):
            return found
        if self._examples_mode:
            return _CANNED
        if found is Miss.UNKNOWN_PROMPT:
            raise ApiError(404, "No message of the user is a recorded prompt.", code=found.value)
        raise ApiError(
            404, f"No answer of the model '{call.model}' is recorded.", code=Miss.MODEL_NOT_FOUND.value, param="model"
        )

    def _count_recorded(self, recorded: RecordedAnswer) -> int:
        tokens = self._answer_tokens.get(recorded)
        if tokens is None:
            tokens = self._answer_tokens[recorded] = self._count_tokens(recorded.text)
        return tokens


class _Response:
    """The answer's way out: notes the status in the journal, and drips when told to."""

    def __init__(self, send: Send, record: CallRecord | None = None) -> None:
        self._send = send
        self._record = record
        self.drip_delay_s: float | None = None
        self.complete = False

    async def start(self, status: int, content_type: bytes, *extra: tuple[bytes, bytes]) -> None:
        if self._record is not None:
            self._record.status = status
        headers = [(b"content-type", content_type), (b"cache-control", b"no-store"), *extra]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        if self.drip_delay_s is None:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            return
        for start in range(0, len(data), DRIP_BYTES):
            piece = data[start : start + DRIP_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(self.drip_delay_s)

    async def end(self) -> None:
        self.complete = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send_json(self, status: int, body: bytes, *, retry_after_s: float | None = None) -> None:
        extra = [(b"content-length", str(len(body)).encode())]
        if retry_after_s is not None:
            # Whole seconds as the standard has them; a fraction, which tests want, as it is.
            extra.append((b"retry-after", f"{retry_after_s:g}".encode()))
        await self.start(status, b"application/json", *extra)
        await self.write(body)
        await self.end()


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """Read a request's body. Raises ApiError (413) beyond `bytes_max`, ClientGoneError when the client leaves."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise ApiError(413, f"The body is larger than {bytes_max} bytes.", code="request_too_large")
        if not message.get("more_body", False):
            return bytes(body)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _close(scope: Scope) -> None:
    close = scope.get("extensions", {}).get(CLOSE_EXTENSION)
    if close is None:
        raise RuntimeError("this ASGI server cannot close connections on purpose; use services.sandbox.server")
    close()
