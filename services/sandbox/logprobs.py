"""Log-probabilities for an answer that is to have some: from a script, from a recording, or made up on request.

Nothing is made up unless a script or a recorded row says so. The tokens here are words and signs, each with the white
space before it, so that they join up to the text; they are not the tokens that usage counts. Pure and deterministic.
"""

import re
import zlib
from typing import Annotated, Final, Literal

from pydantic import Field

from services.sandbox.wire import TokenLogprob

__all__ = ["LogprobSpec", "token_logprobs"]

LOGPROB_MIN: Final = -9_999.0
"""What OpenAI reports for a token out of sight."""
TOKEN_CHARS_MAX: Final = 12
"""Longer words are several tokens."""
VALUES_MAX: Final = 100_000
"""Numbers of one list."""
PSEUDO_LOGPROB_MIN: Final = -3.0
"""Where made-up values end; most are near 0, as with real models."""

Logprob = Annotated[float, Field(strict=True, ge=LOGPROB_MIN, le=0, allow_inf_nan=False)]
LogprobSpec = Logprob | Annotated[tuple[Logprob, ...], Field(min_length=1, max_length=VALUES_MAX)] | Literal["pseudo"]
"""One number for every token, a list that goes token by token (its last number repeats), or made-up numbers."""

_TOKEN: Final = re.compile(rf"\s*\w{{1,{TOKEN_CHARS_MAX}}}|\s*[^\w\s]|\s+")
_HASH_MAX: Final = 2**32 - 1


def token_logprobs(text: str, spec: LogprobSpec) -> tuple[TokenLogprob, ...]:
    """Give every token of `text` its log-probability. Numbers of a list beyond the last token are left over."""
    return tuple(TokenLogprob(token, _value(spec, index, token)) for index, token in enumerate(_TOKEN.findall(text)))


def _value(spec: LogprobSpec, index: int, token: str) -> float:
    if isinstance(spec, tuple):
        return spec[min(index, len(spec) - 1)]
    if spec == "pseudo":
        share = zlib.crc32(f"{index} {token}".encode()) / _HASH_MAX
        return round(PSEUDO_LOGPROB_MIN * share**4, 6)
    return spec
