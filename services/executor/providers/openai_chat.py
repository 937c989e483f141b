"""A provider that speaks OpenAI's chat completions, over httpx on the aiohttp transport.

The transport is a fraction of the cost of httpx's own, but it says some things differently (a connection that the
server closed is a ConnectTimeout there), so failures are told apart by aiohttp's own exceptions, their causes.
Promises: one deadline around the whole call, whatever drips; a bounded answer; no redirects, no proxies or
credentials from the environment, no cookies; the key stands in the Authorization header of the request and nowhere
else, and neither prompts nor keys are in any detail, log or exception.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from services.executor.outcome import Answer, FailureKind, ProviderFailure
from services.executor.providers.openai_wire import StreamAssembler, UnreadableError, parse_answer, request_body
from services.executor.providers.provider import ProviderCall, StreamEvent
from services.executor.providers.sse import EventParser, EventTooLargeError
from spillway.routing import AnswerDelta

__all__ = ["OpenAIChat", "failure_of_status", "retry_after_s"]

_KEEPALIVE_S: Final = 15.0  # shorter than the idle limits of common servers, so that a reused connection is alive
_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError)
_NO_CONNECTION: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_DONE: Final = "[DONE]"


class OpenAIChat:
    """One provider of the configuration. Make it anywhere; its connections open with the first call."""

    def __init__(
        self, base_url: str, *, api_key: str, connections_max: int, connect_timeout_s: float, answer_bytes_max: int
    ) -> None:
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._headers = {"accept-encoding": "identity", "user-agent": "spillway"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._answer_bytes_max = answer_bytes_max
        host = urlsplit(base_url).hostname or ""
        is_openai = host == "api.openai.com" or host.endswith(".openai.azure.com")
        self._output_limit_name = "max_completion_tokens" if is_openai else "max_tokens"
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(
                client=lambda: aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=connections_max, keepalive_timeout=_KEEPALIVE_S),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trust_env=False,
                    auto_decompress=False,
                )
            ),
            # Reading and waiting are bounded by the deadline of each call.
            timeout=httpx.Timeout(None, connect=connect_timeout_s),
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            trust_env=False,
        )

    async def complete(self, call: ProviderCall) -> Answer | ProviderFailure:
        """See Provider."""
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._send(call, stream=False)
                body = b"".join([chunk async for chunk in self._chunks(response)])
                if response.status_code != httpx.codes.OK:
                    return failure_of_status(response.status_code, response.headers)
                return parse_answer(body)
        except TimeoutError:
            return _timeout()
        except (UnreadableError, _AnswerTooLargeError) as error:
            return _unreadable(error)
        except _ERRORS as error:
            return _broken(error)
        finally:
            if response is not None:
                await response.aclose()

    async def stream(self, call: ProviderCall) -> AsyncGenerator[StreamEvent, None]:
        """See Provider."""
        deadline_s = asyncio.get_running_loop().time() + call.timeout_s
        assembler = StreamAssembler()
        response: httpx.Response | None = None
        try:
            # The deadline is set around each wait, never around a yield: there it would strike in the code of
            # whoever iterates.
            async with asyncio.timeout_at(deadline_s):
                response = await self._send(call, stream=True)
            if response.status_code != httpx.codes.OK:
                yield failure_of_status(response.status_code, response.headers)
                return
            async with aclosing(self._events(response, deadline_s)) as events:
                async for data in events:
                    text = assembler.feed(data)
                    if text:
                        yield AnswerDelta(text)
            yield assembler.answer() if assembler.is_complete else _interrupted(assembler.output_chars)
        except TimeoutError:
            yield _timeout(assembler.output_chars)
        except (UnreadableError, EventTooLargeError, _AnswerTooLargeError) as error:
            yield _unreadable(error, assembler.output_chars)
        except _ERRORS as error:
            yield _broken(error, assembler.output_chars)
        finally:
            if response is not None:
                await response.aclose()

    async def close(self) -> None:
        """See Provider."""
        await self._client.aclose()

    async def _send(self, call: ProviderCall, *, stream: bool) -> httpx.Response:
        """The response's head; its body is still to be read, and closed by the caller."""
        body = request_body(call.model, call.chat, stream=stream, output_limit_name=self._output_limit_name)
        request = self._client.build_request("POST", self._url, json=body, headers=self._headers)
        return await self._client.send(request, stream=True)

    async def _chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """The body piece by piece. Raises _AnswerTooLargeError."""
        received = 0
        async for chunk in response.aiter_bytes():
            received += len(chunk)
            if received > self._answer_bytes_max:
                raise _AnswerTooLargeError
            yield chunk

    async def _events(self, response: httpx.Response, deadline_s: float) -> AsyncGenerator[str, None]:
        """The data of each event up to the last. Raises TimeoutError, EventTooLargeError, _AnswerTooLargeError."""
        parser = EventParser(self._answer_bytes_max)
        async with aclosing(self._chunks(response)) as chunks:
            while True:
                async with asyncio.timeout_at(deadline_s):
                    chunk = await anext(chunks, None)
                for data in parser.feed(chunk) if chunk is not None else parser.end():
                    if data.strip() == _DONE:
                        return
                    yield data
                if chunk is None:
                    return


class _AnswerTooLargeError(ValueError):
    """More bytes than the bound."""


def failure_of_status(status: int, headers: Mapping[str, str]) -> ProviderFailure:
    """What a response that is no answer means, by its status."""
    wait_s = retry_after_s(headers)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return ProviderFailure(FailureKind.THROTTLED, "PROVIDER_429", wait_s)
    if status == httpx.codes.REQUEST_TIMEOUT:
        return ProviderFailure(FailureKind.TIMEOUT, "PROVIDER_TIMEOUT", wait_s)
    if status == httpx.codes.CONFLICT or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        reason = "PROVIDER_409" if status == httpx.codes.CONFLICT else "PROVIDER_5XX"
        return ProviderFailure(FailureKind.ERROR, reason, wait_s, detail=f"HTTP {status}")
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return ProviderFailure(FailureKind.AUTH, "PROVIDER_AUTH", detail=f"HTTP {status}")
    if status == httpx.codes.NOT_FOUND:
        return ProviderFailure(FailureKind.AUTH, "PROVIDER_NOT_FOUND", detail=f"HTTP {status}")
    if status >= httpx.codes.BAD_REQUEST:
        return ProviderFailure(FailureKind.REJECTED, "PROVIDER_REJECTED", detail=f"HTTP {status}")
    # A redirect or an empty success: not the address of a chat API.
    return ProviderFailure(FailureKind.UNREADABLE, "PROVIDER_UNREADABLE", detail=f"HTTP {status}")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header; of a date, the time from the response's own Date header."""
    raw = headers.get("retry-after", "").strip()
    try:
        seconds = float(raw)
    except ValueError:
        try:
            until = email.utils.parsedate_to_datetime(raw)
            sent = email.utils.parsedate_to_datetime(headers.get("date", ""))
            seconds = (until - sent).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


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
