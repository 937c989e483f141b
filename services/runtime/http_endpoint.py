"""One address that an operator named, to which requests are posted: httpx's requests over an aiohttp transport.

The transport is a fraction of the cost of httpx's own, but it says some things differently (a connection that the
server closed is a ConnectTimeout there), so who tells failures apart does it by aiohttp's own exceptions, their causes.
Promises: connections used again; no redirects, no proxies or credentials from the environment (certificate authorities
may come from SSL_CERT_FILE), no cookies, nothing decompressed. Nothing in a request can change the address. The key
stands in its header of the request and nowhere else. Time and the size of answers are for whoever posts to bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

__all__ = ["HTTP_ERRORS", "HttpEndpoint"]

_KEEPALIVE_S: Final = 15.0  # shorter than the idle limits of common servers, so that a reused connection is alive
HTTP_ERRORS: Final = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError)
"""All that posting, and reading what comes back, may raise, beside TimeoutError."""


class HttpEndpoint:
    """Make it anywhere; its connections open with the first request. `headers` are further ones, the key's among them.

    Without `connect_timeout_s` connecting, too, is bounded by nothing but the caller's deadline. Raises ValueError when
    the address is none or the key has characters that no header can carry.
    """

    def __init__(
        self,
        base_url: str,
        path: str,
        *,
        headers: Mapping[str, str],
        connections_max: int,
        connect_timeout_s: float | None = None,
    ) -> None:
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise ValueError("the API key has characters that no header can carry")
        try:
            self._url = httpx.URL(base_url.rstrip("/") + path)
        except httpx.InvalidURL:
            raise ValueError("the base URL is none") from None
        self._headers = httpx.Headers(
            {"accept-encoding": "identity", "content-type": "application/json", "user-agent": "spillway", **headers}
        )
        # Reading and waiting are bounded by the deadline of each call.
        self._extensions = {"timeout": httpx.Timeout(None, connect=connect_timeout_s).as_dict()}
        certificates = httpx.create_ssl_context() if self._url.scheme == "https" else False
        # The transport alone, without httpx's client around it: that follows redirects, keeps cookies, authenticates
        # from .netrc and takes 0.1 ms of CPU a call, all for nothing here.
        self._transport = AiohttpTransport(
            verify=certificates,
            client=lambda: aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=connections_max, keepalive_timeout=_KEEPALIVE_S, ssl=certificates or True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            ),
        )

    def request(self, content: bytes) -> httpx.Request:
        """A request with this body, to be sent here."""
        return httpx.Request("POST", self._url, headers=self._headers, content=content, extensions=self._extensions)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The head of the answer; the caller reads its body, and closes it. Raises HTTP_ERRORS."""
        return await self._transport.handle_async_request(request)

    async def close(self) -> None:
        """Ends the connections."""
        await self._transport.aclose()
