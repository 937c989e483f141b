"""Vectors from a server that speaks OpenAI's embeddings: a Backend over HTTP, behind a breaker of its own.

Promises: one deadline around each call, whatever drips; a bounded answer, believed only when every text has exactly
one finite vector of the agreed size, which is then made unit length, and as long as the server names the model that it
named first; after several failures in a row the server is left
alone for a while, at no cost in time; whatever goes wrong is an EmbedderError that names neither text nor key. The
address is the operator's: no redirects, no proxies and no credentials from the environment, no cookies.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np
import numpy.typing as npt

from services.classifier.embedder import EmbedderUnavailableError, Vectors
from services.classifier.encoder import TOKENS_MAX, cut_text
from services.runtime.clock import Clock
from services.runtime.cooldown import Cooldown
from services.runtime.http_endpoint import HTTP_ERRORS, HttpEndpoint
from services.runtime.logs import get_logger

__all__ = ["CALLS_MAX", "Endpoint", "EndpointBackend", "parse_answer"]

CALLS_MAX: Final = 4
"""Calls under way at once."""
_NUMBER_BYTES: Final = 40  # of one number as JSON, indented and generously
_ENVELOPE_BYTES: Final = 65_536
# The server is well, only this request is not to its taste.
_REFUSALS: Final = frozenset({400, 413, 422})
_HASH_DIGITS: Final = 12
_LENGTH_MIN: Final = 1e-12
_INLINE_BYTES_MAX: Final = 65_536  # a few milliseconds
_NAME_CHARACTERS_MAX: Final = 200

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server is and what is agreed with it. `failures_max` in a row leave it alone for `open_s`."""

    base_url: str
    model: str
    dimensions: int
    timeout_s: float
    failures_max: int
    open_s: float

    @property
    def model_id(self) -> str:
        """The model's name with a hash of who serves it: two servers may call different models alike."""
        whole = "\n".join((self.base_url.rstrip("/"), self.model, str(self.dimensions)))
        return f"{self.model}/{hashlib.sha256(whole.encode()).hexdigest()[:_HASH_DIGITS]}"


class _UnreadableError(ValueError):
    """The answer is none. The message quotes nothing of it."""


class EndpointBackend:
    """See Backend. Make it anywhere; its connections open with the first call.

    Raises ValueError when the base URL is none or the key has characters that no header can carry.
    """

    def __init__(self, endpoint: Endpoint, *, api_key: str, clock: Clock) -> None:
        self._http = HttpEndpoint(
            endpoint.base_url,
            "/embeddings",
            headers={"authorization": f"Bearer {api_key}"} if api_key else {},
            connections_max=CALLS_MAX,
        )
        self._endpoint = endpoint
        self._served_model = ""
        self._refused_model = ""
        self._clock = clock
        self._cooldown = Cooldown(pause_s=endpoint.open_s, failures_max=endpoint.failures_max)
        self.model_id = endpoint.model_id
        self.dimensions = endpoint.dimensions
        # What its model can read is unknown; texts are cut as for the built-in one, which every known model can.
        self.tokens_max = TOKENS_MAX

    def cut(self, text: str) -> str:
        """See Backend. A server may refuse the empty text; a space it takes."""
        return cut_text(text, self.tokens_max) or " "

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """See Backend."""
        ticket = self._cooldown.enter(self._clock.monotonic())
        if ticket is None:
            message = "the embedding endpoint failed and is left alone for a while"
            raise EmbedderUnavailableError(message)
        try:
            async with asyncio.timeout(self._endpoint.timeout_s):
                status, body = await self._post(texts)
            if status == httpx.codes.OK:
                # Long lists of numbers in a thread: every judgement waits for the event loop.
                parse = (body, len(texts), self.dimensions)
                inline = len(body) <= _INLINE_BYTES_MAX
                vectors, model = parse_answer(*parse) if inline else await asyncio.to_thread(parse_answer, *parse)
                self._check_model(model)
                self._cooldown.succeeded(ticket)
                return vectors
            trouble = f"answered HTTP {status}"
            well = status in _REFUSALS
        except TimeoutError:
            trouble, well = "took too long", False
        except _UnreadableError as error:
            trouble, well = f"answered with {error}", False
        except HTTP_ERRORS as error:
            trouble, well = f"could not be asked ({type(error).__name__})", False
        except BaseException:
            self._cooldown.abandoned(ticket)
            raise
        if well:
            self._cooldown.succeeded(ticket)
        else:
            self._cooldown.failed(ticket, self._clock.monotonic())
        raise EmbedderUnavailableError(f"the embedding endpoint {trouble}")

    def _check_model(self, model: str) -> None:
        """Vectors of two models are not comparable, and memory, cache and heads hold those of the first.

        The name is the server's own, which need not be the configured one (an alias, a path); so it is held against
        what the server said first. Raises _UnreadableError.
        """
        self._served_model = self._served_model or model
        if model in {"", self._served_model}:
            return
        if model != self._refused_model:
            self._refused_model = model  # once for each change
            _log.warning(
                "embedding_model_changed", before=self._served_model, now=model, remedy="restart when intended"
            )
        raise _UnreadableError("vectors of another model than before")

    async def close(self) -> None:
        """See Backend."""
        await self._http.close()

    async def _post(self, texts: Sequence[str]) -> tuple[int, bytes]:
        """Status and body; of an error the body is not read. Raises _UnreadableError and what the transport raises."""
        body = {"model": self._endpoint.model, "input": list(texts), "encoding_format": "float"}
        request = self._http.request(json.dumps(body).encode())
        bytes_max = _ENVELOPE_BYTES + len(texts) * (self.dimensions * _NUMBER_BYTES + 1_024)
        response = await self._http.send(request)
        try:
            if response.status_code != httpx.codes.OK:
                return response.status_code, b""
            received = bytearray()
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > bytes_max:
                    raise _UnreadableError("too many bytes")
            return response.status_code, bytes(received)
        finally:
            await response.aclose()


def parse_answer(body: bytes, count: int, dimensions: int) -> tuple[Vectors, str]:
    """The unit vectors in an answer, in the order of the texts, and the model that it names (empty when it names none).

    Raises ValueError, which quotes nothing of it.
    """
    try:
        answer = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise _UnreadableError("no JSON") from None
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != count:
        raise _UnreadableError("another number of vectors than texts")
    result = np.zeros((count, dimensions), dtype=np.float32)
    seen: set[int] = set()
    for item in data:
        index = item.get("index") if isinstance(item, dict) else None
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count or index in seen:
            raise _UnreadableError("indices that are not those of the texts")
        seen.add(index)
        result[index] = _unit(item.get("embedding"), dimensions)
    model = answer.get("model")
    return result, _printable(model) if isinstance(model, str) else ""


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name[:_NAME_CHARACTERS_MAX])


def _unit(values: Any, dimensions: int) -> npt.NDArray[np.float64]:
    if not isinstance(values, list) or len(values) != dimensions:
        raise _UnreadableError(f"vectors that have not {dimensions} dimensions")
    if not all(type(value) in (int, float) for value in values):
        raise _UnreadableError("vectors that are not numbers")
    try:
        vector = np.asarray(values, dtype=np.float64)
    except OverflowError:
        raise _UnreadableError("vectors that are not finite") from None
    largest = float(np.abs(vector).max())
    if not np.isfinite(largest):
        raise _UnreadableError("vectors that are not finite")
    if largest <= _LENGTH_MIN:
        raise _UnreadableError("a vector without a direction")
    # Scaled first: the square of a large number is no number.
    scaled = vector / largest
    return np.asarray(scaled / np.linalg.norm(scaled), dtype=np.float64)


def _refuse(_: str) -> None:
    raise ValueError("not JSON")
