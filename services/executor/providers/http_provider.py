"""A provider behind HTTP: any wire format, at an HttpEndpoint.

Failures are told apart by aiohttp's own exceptions, the causes of httpx's.
Promises: one deadline around the whole call, whatever drips; a bounded answer; and what HttpEndpoint promises of
connections and of the key. Neither prompts nor keys are in any detail, log, exception or repr.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import aiohttp
import httpx

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.failures import (
    Complaint,
    ComplaintError,
    failure_of_complaint,
    outcome_of_response,
    read_complaint,
)
from services.executor.providers.provider import ProviderCall, StreamEvent
from services.executor.providers.sse import EventParser, EventTooLargeError
from services.executor.providers.wire import Assembler, UnreadableError, Wire, encode_body, load_object
from services.runtime.http_endpoint import HTTP_ERRORS, HttpEndpoint
from spillway.routing import AnswerDelta

__all__ = ["HttpProvider"]

_ERROR_BYTES_MAX: Final = 65_536  # of the body of an error; a longer one is judged by its status alone
_ERROR_BODY_S: Final = 1.0  # and so is one that takes longer
_NO_CONNECTION: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class HttpProvider:
    """One provider of the configuration. Make it anywhere; its connections open with the first call.

    Raises ValueError when the base URL is none or the key has characters that no header can carry.
    """

    def __init__(
        self,
        wire: Wire,
        base_url: str,
        *,
        api_key: str,
        connections_max: int,
        connect_timeout_s: float,
        answer_bytes_max: int,
    ) -> None:
        self._wire = wire
        self._api_key = api_key
        self._answer_bytes_max = answer_bytes_max
        self._endpoint = HttpEndpoint(
            base_url,
            wire.path,
            headers=wire.headers(api_key),
            connections_max=connections_max,
            connect_timeout_s=connect_timeout_s,
        )

    async def complete(self, call: ProviderCall) -> Answer | ProviderFailure:
        """See Provider."""
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(call.timeout_s):
                request = self._request(call, stream=False)
                response = await self._endpoint.send(request)
                if response.status_code != httpx.codes.OK:
                    return await self._refusal(response)
                return self._wire.parse_answer(await self._body(response, self._answer_bytes_max))
        except TimeoutError:
            return _timeout()
        except ComplaintError as error:
            return failure_of_complaint(error.complaint)
        except _UnwritableError as error:
            return error.failure
        except (UnreadableError, _AnswerTooLargeError) as error:
            return _unreadable(error)
        except HTTP_ERRORS as error:
            return _broken(error)
        finally:
            if response is not None:
                await response.aclose()

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamEvent, None]:
        """See Provider."""
        deadline_s = asyncio.get_running_loop().time() + call.timeout_s
        assembler = self._wire.assembler()
        response: httpx.Response | None = None
        try:
            # The deadline is set around each wait, never around a yield: there it would strike in the code of
            # whoever iterates.
            async with asyncio.timeout_at(deadline_s):
                request = self._request(call, stream=True)
                response = await self._endpoint.send(request)
                whole = await self._unstreamed(response)
            if whole is None:
                async with aclosing(self._deltas(response, assembler, deadline_s)) as deltas:
                    async for delta in deltas:
                        yield delta
                whole = assembler.answer() if assembler.is_complete else _interrupted(assembler.output_chars)
            elif isinstance(whole, Answer) and whole.message.text:
                yield AnswerDelta(whole.message.text)
            yield whole
        except TimeoutError:
            yield _timeout(assembler.output_chars)
        except ComplaintError as error:
            yield failure_of_complaint(error.complaint, assembler.output_chars)
        except _UnwritableError as error:
            yield error.failure
        except (UnreadableError, EventTooLargeError, _AnswerTooLargeError) as error:
            yield _unreadable(error, assembler.output_chars)
        except HTTP_ERRORS as error:
            yield _broken(error, assembler.output_chars)
        finally:
            if response is not None:
                await response.aclose()

    async def close(self) -> None:
        """See Provider."""
        await self._endpoint.close()

    def _request(self, call: ProviderCall, *, stream: bool) -> httpx.Request:
        try:
            content = encode_body(self._wire.request_body(call, stream=stream))
        except (ValueError, RecursionError):
            raise _UnwritableError from None
        return self._endpoint.request(content)

    async def _refusal(self, response: httpx.Response) -> Answer | ProviderFailure:
        """What a response that is not a 200 means. Its status stands, whatever is wrong with its body."""
        complaint: Complaint | None = None
        try:
            async with asyncio.timeout(_ERROR_BODY_S):
                complaint = read_complaint(load_object(await self._body(response, _ERROR_BYTES_MAX)))
        except (TimeoutError, UnreadableError, _AnswerTooLargeError, *HTTP_ERRORS):
            pass
        outcome = outcome_of_response(response.status_code, response.headers, complaint, time.time())
        if isinstance(outcome, ProviderFailure) and self._api_key and self._api_key in outcome.detail:
            return replace(outcome, detail=f"HTTP {response.status_code}")  # a server that echoes its callers' keys
        return outcome

    async def _unstreamed(self, response: httpx.Response) -> Answer | ProviderFailure | None:
        """The outcome of a response that is no stream; None when it is one."""
        if response.status_code != httpx.codes.OK:
            return await self._refusal(response)
        if response.headers.get("content-type", "").lower().startswith("application/json"):
            return self._wire.parse_answer(await self._body(response, self._answer_bytes_max))
        return None

    async def _deltas(
        self, response: httpx.Response, assembler: Assembler, deadline_s: float
    ) -> AsyncGenerator[AnswerDelta, None]:
        """The text up to the last event. Raises what the assembler and the bounds raise, and TimeoutError.

        What arrived together goes on together: a stream that is faster than its reader costs less, and none waits.
        """
        parser = EventParser(self._answer_bytes_max)
        async with aclosing(self._chunks(response, self._answer_bytes_max)) as chunks:
            while True:
                async with asyncio.timeout_at(deadline_s):
                    chunk = await anext(chunks, None)
                pieces: list[str] = []
                trouble: Exception | None = None
                try:
                    for data in parser.feed(chunk) if chunk is not None else parser.end():
                        pieces.append(assembler.feed(data))
                        if assembler.is_over:
                            break
                except (UnreadableError, ComplaintError, EventTooLargeError) as error:
                    trouble = error
                text = "".join(pieces)
                if text:
                    yield AnswerDelta(text)
                if trouble is not None:
                    raise trouble
                if chunk is None or assembler.is_over:
                    return

    async def _body(self, response: httpx.Response, bytes_max: int) -> bytes:
        """The whole body. Raises _AnswerTooLargeError."""
        async with aclosing(self._chunks(response, bytes_max)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def _chunks(self, response: httpx.Response, bytes_max: int) -> AsyncGenerator[bytes, None]:
        """The body piece by piece. Raises _AnswerTooLargeError."""
        received = 0
        async for chunk in response.aiter_raw():
            received += len(chunk)
            if received > bytes_max:
                raise _AnswerTooLargeError
            yield chunk


class _AnswerTooLargeError(ValueError):
    """More bytes than the bound."""


class _UnwritableError(ValueError):
    """The request cannot be written as JSON, for depth or size of what it quotes."""

    failure = ProviderFailure(FailureKind.REJECTED, "PROVIDER_REJECTED", detail="cannot be written as JSON")


def _timeout(output_chars: int = 0) -> ProviderFailure:
    return ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT", billable=True, output_chars=output_chars)


def _unreadable(error: Exception, output_chars: int = 0) -> ProviderFailure:
    return ProviderFailure(
        FailureKind.UNREADABLE,
        "PROVIDER_UNREADABLE",
        detail=str(error) if isinstance(error, UnreadableError) else type(error).__name__,
        billable=True,
        output_chars=output_chars,
    )


def _interrupted(output_chars: int, detail: str = "") -> ProviderFailure:
    return ProviderFailure(
        FailureKind.ERROR, "PROVIDER_INTERRUPTED", detail=detail, billable=True, output_chars=output_chars
    )


def _broken(error: Exception, output_chars: int = 0) -> ProviderFailure:
    """No connection, or one that was lost: then the provider may have worked, and charged."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol) or isinstance(error.__cause__, _NO_CONNECTION):
        return ProviderFailure(FailureKind.ERROR, "PROVIDER_CONNECT", detail=type(error).__name__)
    return _interrupted(output_chars, type(error).__name__)
