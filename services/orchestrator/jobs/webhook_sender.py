"""Tells a webhook once.

Promises: the name is resolved, every address judged, and the connection made to exactly an address that was judged, so
that a name which resolves differently the next moment gains nothing; TLS is verified against the name. No redirect is
followed, no proxy and no credential of the environment used, no connection used twice, no byte of the answer's body
read. One time limit lies around all of it. Who gets no thread to resolve a name has not been tried at all.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from services.orchestrator.jobs.job_store import Notice
from services.orchestrator.jobs.name_resolver import NameResolver, ResolversBusyError
from services.orchestrator.jobs.webhook import body_of, headers_of
from services.orchestrator.jobs.webhook_guard import ForbiddenUrlError, WebhookGuard, WebhookUrl
from services.runtime.clock import Clock
from spillway.routing import WebhookDelivery

__all__ = ["Resolve", "Sent", "WebhookSender"]

TIMEOUT_S: Final = 15.0
"""From resolving the name to the answer's head, as Standard Webhooks advises."""

CONNECT_S: Final = 4.0
ADDRESSES_MAX: Final = 3
BUSY_AGAIN_S: Final = 1.0
"""When a notice is due again for which no name could be looked up."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, as text. Raises OSError or UnicodeError when there are none."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of it. `is_final`: trying again is of no use. Without a delivery nothing was tried."""

    delivery: WebhookDelivery | None
    is_final: bool = False
    retry_after_s: float | None = None


class _Refused(Exception):  # noqa: N818 - a way out, not an error
    def __init__(self, word: str, *, is_final: bool = False) -> None:
        super().__init__(word)
        self.word = word
        self.is_final = is_final


class WebhookSender:
    """`secrets` as `parse_secrets` gives them, at least one. `tls` verifies servers, by default against public CAs."""

    def __init__(
        self,
        guard: WebhookGuard,
        secrets: Sequence[bytes],
        *,
        clock: Clock,
        resolve: Resolve | None = None,
        names: NameResolver | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._guard = guard
        self._secrets = tuple(secrets)
        self._clock = clock
        self._names = names or NameResolver()
        self._resolve = resolve
        self._tls = tls or httpx.create_ssl_context(trust_env=True)
        self._timeout_s = timeout_s

    async def send(self, notice: Notice) -> Sent:
        """Tells it of the job. Never raises."""
        now_s = self._clock.unix()
        body = body_of(notice.job)
        headers = headers_of(notice.job.job_id, body, now_unix_s=now_s, secrets=self._secrets)
        try:
            async with asyncio.timeout(self._timeout_s):
                status, retry_after = await self._post(notice.tenant, notice.url, headers, body)
        except ResolversBusyError:
            return Sent(None, retry_after_s=BUSY_AGAIN_S)
        except TimeoutError:
            return Sent(WebhookDelivery(now_s, error="TIMEOUT"))
        except _Refused as refusal:
            return Sent(WebhookDelivery(now_s, error=refusal.word), refusal.is_final)
        retry_after_s = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else None
        return Sent(WebhookDelivery(now_s, status, _word(status)), status == httpx.codes.GONE, retry_after_s)

    def close(self) -> None:
        """Lets go of the threads that resolve names."""
        self._names.close()

    async def _post(self, tenant: str, text: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        """Status and Retry-After of the first address that takes a connection."""
        try:
            url = self._guard.check(text)
        except ForbiddenUrlError:
            raise _Refused("URL_NOT_ALLOWED", is_final=True) from None
        try:
            if self._resolve is not None:
                addresses = await self._resolve(url.host, url.port)
            else:
                addresses = await self._names.resolve(tenant, url.host, url.port)
        except (OSError, UnicodeError):
            raise _Refused("NO_ADDRESS") from None
        if not addresses:
            raise _Refused("NO_ADDRESS")
        allowed = self._guard.allowed(url.host, addresses)
        if not allowed:
            raise _Refused("ADDRESS_NOT_PUBLIC", is_final=True)
        trouble = "CONNECT"
        for address in allowed[:ADDRESSES_MAX]:
            try:
                return await self._post_to(address, url, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                trouble = "TLS" if _is_tls(error) else "CONNECT"
            except httpx.HTTPError:
                raise _Refused("INTERRUPTED") from None
        raise _Refused(trouble)

    async def _post_to(self, address: str, url: WebhookUrl, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        host = f"[{address}]" if ":" in address else address
        request = httpx.Request(
            "POST",
            f"{url.scheme}://{host}:{url.port}{url.path}",
            headers={
                "host": url.authority,
                "content-type": "application/json",
                "user-agent": "spillway",
                "connection": "close",
                **headers,
            },
            content=body,
            extensions={
                "sni_hostname": url.host,  # also what the certificate is held against
                "timeout": httpx.Timeout(self._timeout_s, connect=CONNECT_S).as_dict(),
            },
        )
        transport = httpx.AsyncHTTPTransport(
            verify=self._tls, trust_env=False, limits=httpx.Limits(max_connections=1, max_keepalive_connections=0)
        )
        async with transport:
            response = await transport.handle_async_request(request)
            try:
                return response.status_code, response.headers.get("retry-after", "").strip()[:8]
            finally:
                await response.aclose()


def _word(status: int) -> str:
    if httpx.codes.is_success(status):
        return ""
    return "REDIRECT" if httpx.codes.is_redirect(status) else "STATUS"


def _is_tls(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
