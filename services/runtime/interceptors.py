"""The door of every server: the one interceptor between gRPC and the servicers.

Promises, for every call: the request's bytes are parsed here, so that a malformed one is INVALID_ARGUMENT /
MALFORMED_MESSAGE; more calls than the limit are refused at once with OVERLOADED; a call has a deadline, the caller's or
the default, capped; whatever a servicer raises becomes a status with a reason and constant public text, and a defect is
logged under the trace id. CancelledError is never touched. Health, reflection and channelz pass the same door without
limit, deadline and span. Where it is said who may call, everything but health is for those alone.

Contract for servicers: raise SpillwayError (or WireError, InvalidValue); streams are async generators; never call
`context.abort` or `context.read`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractContextManager, aclosing, nullcontext
from contextvars import ContextVar
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, EncodeError

from services.runtime.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    NotFound,
    NotImplementedYet,
    Overloaded,
    SpillwayError,
    Unavailable,
    from_rpc_error,
)
from services.runtime.logs import describe_exception, get_logger
from services.runtime.peer import not_admitted, peer_names
from services.runtime.tracing import CallOutcome, ServerCalls, is_infrastructure
from spillway.validation import InvalidValue
from spillway.wire import WireError

__all__ = ["Door", "remaining_s", "to_spillway_error"]

# Advice for callers that were refused: by then a call or two has left.
OVERLOADED_RETRY_AFTER_S: Final = 0.1
_NOT_FOUND: Final = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.NOT_FOUND.value[0])  # grpc.aio gives either

STRANGERS_MAX: Final = 100
"""So many callers that may not call are told of in the log, each once."""
_HEALTH: Final = "/grpc.health.v1.Health/"

_deadline: ContextVar[float | None] = ContextVar("spillway_deadline", default=None)

Handler = Any  # grpc.RpcMethodHandler, whose types do not know asyncio
Context = Any  # grpc.aio.ServicerContext


def remaining_s(context: Context, default: float) -> float:
    """How long the caller of this call still waits, in seconds, at least 0; `default` when nothing says.

    To be passed on, less what is needed to answer, with every nested call: Python gRPC does not do it.
    """
    deadline = _deadline.get()
    if deadline is not None:
        return max(0.0, deadline - asyncio.get_running_loop().time())
    remaining: float | None = context.time_remaining()
    return default if remaining is None else max(0.0, remaining)


def to_spillway_error(error: Exception) -> SpillwayError:
    """What an exception means to a caller. Everything unknown is INTERNAL."""
    match error:
        case SpillwayError():
            return error
        case WireError():
            return InvalidRequest([(error.path, error.message)])
        case InvalidValue():
            return InvalidRequest(
                [(violation.path, violation.message) for violation in error.violations], reason=error.reason
            )
        case TimeoutError():
            return DeadlineExceeded()
        case grpc.RpcError():
            return from_rpc_error(error)
        case NotImplementedError():  # what the generated base class raises for a method that the servicer leaves out
            return NotImplementedYet("the method")
        case _:
            return Internal(detail=type(error).__name__)


class Door(grpc.aio.ServerInterceptor):
    """See the head of this module. One per server."""

    def __init__(
        self,
        *,
        calls_max: int,
        deadline_s_max: float,
        message_bytes_max: int,
        calls: ServerCalls | None,
        callers: Collection[str] = (),
    ) -> None:
        """`calls` observes calls; None when telemetry is off.

        `callers` are the names, of certificates, that may call (`peer.peer_names`); empty: everybody may.
        """
        self._callers = frozenset(callers)
        self._strangers: set[frozenset[str]] = set()
        self._calls_max = calls_max
        self._deadline_s_max = deadline_s_max
        self._message_bytes_max = message_bytes_max
        self._calls = calls
        self._in_flight = 0
        self._closing = False
        self._watchers: set[asyncio.Task[Any]] = set()
        # One per registered method, so bounded.
        self._handlers: dict[str, Handler] = {}
        self._logger = get_logger(__name__)

    @property
    def in_flight(self) -> int:
        """Calls under way, health checks and their like not counted."""
        return self._in_flight

    def end_watchers(self) -> None:
        """Ends health watches and reflection streams, which would otherwise outlast any grace."""
        self._closing = True
        for task in self._watchers:
            task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        method = handler_call_details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(self._unknown_method)
        self._handlers[method] = self._wrap(method, handler)
        return self._handlers[method]

    async def _unknown_method(self, _request: bytes, context: Context) -> None:
        await _abort(context, NotImplementedYet("the method"))

    def _wrap(self, method: str, handler: Handler) -> Handler:
        behavior = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        guard = self._watch if is_infrastructure(method) else self._serve
        is_for_all = not self._callers or method.startswith(_HEALTH)
        requests = self._parsed_stream if handler.request_streaming else self._parsed

        async def unary(raw: Any, context: Context) -> Any:
            async def answer() -> bytes:
                if not is_for_all:
                    self._admit(context)
                request = requests(raw, handler.request_deserializer)
                response = await behavior(request, context)
                if response is None and context.code() in _NOT_FOUND:  # so says channelz
                    raise NotFound
                return _serialized(response, handler.response_serializer)

            return await guard(method, context, answer)

        async def stream(raw: Any, context: Context) -> None:
            async def answer() -> None:
                if not is_for_all:
                    self._admit(context)
                request = requests(raw, handler.request_deserializer)
                responses = behavior(request, context)
                if not hasattr(responses, "__aiter__"):
                    await responses  # a servicer that writes by itself, such as health's Watch
                    return
                async with aclosing(responses):
                    async for response in responses:
                        await context.write(response)

            await guard(method, context, answer)

        # Unary answers are serialized above, where an error is mapped; those of streams in context.write, also above.
        if not handler.response_streaming:
            make_unary = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            return make_unary(unary)
        make_stream = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return make_stream(stream, response_serializer=handler.response_serializer)

    def _admit(self, context: Context) -> None:
        """Raises SpillwayError for a caller whose certificate has none of the names."""
        names = peer_names(context.auth_context())
        if not names.isdisjoint(self._callers):
            return
        error = not_admitted(names)
        if names not in self._strangers and len(self._strangers) < STRANGERS_MAX:
            self._strangers.add(names)
            self._logger.warning("caller_not_admitted", reason=error.reason, detail=error.detail)
        raise error

    def _parsed(self, raw: bytes, deserialize: Callable[[bytes], Any]) -> Any:
        if len(raw) > self._message_bytes_max:
            raise SpillwayError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "MESSAGE_TOO_LARGE",
                "the message is larger than the server accepts",
            )
        try:
            return deserialize(raw)
        except (DecodeError, UnicodeDecodeError):
            raise InvalidRequest(
                reason="MALFORMED_MESSAGE", public="the message cannot be read: broken encoding or invalid UTF-8"
            ) from None

    async def _parsed_stream(self, raw: AsyncIterator[bytes], deserialize: Callable[[bytes], Any]) -> Any:
        async for message in raw:
            yield self._parsed(message, deserialize)

    async def _serve(self, method: str, context: Context, answer: Callable[[], Awaitable[Any]]) -> Any:
        """Runs `answer` under the limit, the deadline and a span, and maps its error."""
        observed: AbstractContextManager[CallOutcome] = (
            nullcontext(CallOutcome())
            if self._calls is None
            else self._calls.observe(method, context.invocation_metadata() or ())
        )
        with observed as outcome:
            try:
                if self._in_flight >= self._calls_max:
                    raise Overloaded(OVERLOADED_RETRY_AFTER_S)
                self._in_flight += 1
                try:
                    return await self._within_deadline(context, answer)
                finally:
                    self._in_flight -= 1
            except grpc.aio.AbortError:
                outcome.code = grpc.StatusCode.UNKNOWN
                raise
            except Exception as error:  # noqa: BLE001 - the one place where every error ends
                mapped = to_spillway_error(error)
                outcome.code, outcome.reason = mapped.code, mapped.reason
                self._log(method, mapped, error)
            await _abort(context, mapped)
        return None

    async def _within_deadline(self, context: Context, answer: Callable[[], Awaitable[Any]]) -> Any:
        remaining: float | None = context.time_remaining()
        allowed_s = self._deadline_s_max if remaining is None else min(remaining, self._deadline_s_max)
        _deadline.set(asyncio.get_running_loop().time() + allowed_s)
        async with asyncio.timeout(allowed_s):
            return await answer()

    async def _watch(self, method: str, context: Context, answer: Callable[[], Awaitable[Any]]) -> Any:
        """Runs `answer`, which may last as long as the connection, until the server ends."""
        task = None if self._closing else asyncio.current_task()
        if task is None:
            await _abort(context, Unavailable(public="the server is stopping"))
            return None
        self._watchers.add(task)
        try:
            return await answer()
        except asyncio.CancelledError:
            if not self._closing:
                raise
            task.uncancel()
            mapped: SpillwayError = Unavailable(public="the server is stopping")
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - as in _serve
            mapped = to_spillway_error(error)
            self._log(method, mapped, error)
        finally:
            self._watchers.discard(task)
        return await _abort(context, mapped)

    def _log(self, method: str, mapped: SpillwayError, error: Exception) -> None:
        fields = {"method": method, "code": mapped.code.name, "reason": mapped.reason, "detail": mapped.detail}
        if mapped.code is grpc.StatusCode.INTERNAL:
            self._logger.error("call_failed", **fields, **describe_exception(error))
        elif mapped.code is grpc.StatusCode.UNAVAILABLE:
            self._logger.warning("call_failed", **fields)
        else:
            self._logger.debug("call_failed", **fields)


def _serialized(response: Any, serialize: Callable[[Any], bytes]) -> bytes:
    try:
        return serialize(response)
    except (EncodeError, TypeError, AttributeError) as error:
        raise Internal(detail="the response cannot be serialized") from error


async def _abort(context: Context, error: SpillwayError) -> None:
    kept = tuple(context.trailing_metadata() or ())
    await context.abort(error.code, error.public, (*kept, *error.trailing_metadata()))
