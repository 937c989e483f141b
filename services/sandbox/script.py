"""Scripts: what the sandbox is told to do with the calls of a model, one step per call.

A script is `{"api_key"?: KEY, "models": {MODEL or "*": [STEP, ...]}}`. The steps of a model serve its calls in order,
each as many calls as its `times` says (1). The last step repeats for ever, unless it says `times` itself: then calls
behave normally after it. `"*"` serves the models without steps of their own, and they share its position. A step with
no fields is normal behaviour.

A script does not know which wire its calls come in by: it says OpenAI's words, and the wire translates.

Pure: no I/O and no clock; who plays a step is in `provider`. Unknown keys and contradictory steps are refused.
"""

import re
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services.sandbox.logprobs import LogprobSpec

__all__ = ["Playback", "Script", "ScriptError", "Step", "ToolCallSpec", "UsageSpec", "parse_script"]

STEPS_MAX: Final = 10_000
"""Steps per model: far more than a test needs."""
MODELS_MAX: Final = 1_000
SECONDS_MAX: Final = 3_600.0
"""The longest latency or delay."""
TEXT_CHARS_MAX: Final = 4 * 1024 * 1024
TOOL_CALLS_MAX: Final = 128
HEADERS_MAX: Final = 32
"""Headers that a step adds."""
DRIP_BYTES_PER_S_MAX: Final = 10.0**9

_HEADER_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,1022}[\x21-\x7e])?")
_FRAMING_HEADERS: Final = frozenset({"connection", "content-length", "content-type", "transfer-encoding"})

Seconds = Annotated[float, Field(ge=0, le=SECONDS_MAX, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, le=10**9)]


class ScriptError(ValueError):
    """A script is refused; the message lists every fault with its place."""


class _Strict(BaseModel):
    # Not pydantic's strict mode: JSON's 1 has to pass for 1.0.
    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolCallSpec(_Strict):
    """A tool call to answer with. `arguments` goes out as it is, so it may be invalid JSON on purpose."""

    name: str = Field(min_length=1, max_length=256)
    arguments: str = Field(default="{}", max_length=TEXT_CHARS_MAX)
    id: str | None = Field(default=None, max_length=256)


class UsageSpec(_Strict):
    """Token counts to report instead of counted ones."""

    prompt_tokens: Tokens
    """All of the prompt, cached or not."""
    completion_tokens: Tokens
    """All of the completion, reasoning too."""
    cached_tokens: Tokens | None = None
    cache_creation_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None

    @model_validator(mode="after")
    def _refuse_parts_beyond_the_whole(self) -> Self:
        if (self.cached_tokens or 0) + (self.cache_creation_tokens or 0) > self.prompt_tokens:
            raise ValueError("cached_tokens and cache_creation_tokens are part of prompt_tokens")
        if (self.reasoning_tokens or 0) > self.completion_tokens:
            raise ValueError("reasoning_tokens are part of completion_tokens")
        return self


class Step(_Strict):
    """What happens to one call. All fields absent: normal behaviour."""

    times: int | None = Field(default=None, ge=1, le=10**9)
    """How many calls the step serves."""

    latency_s: Seconds = 0.0
    """Wait before anything is sent."""
    first_byte_delay_s: Seconds = 0.0
    """Wait between the response's head and the first byte of its body."""

    # What is answered. Without any of these the answer is the normal one.
    text: str | None = Field(default=None, max_length=TEXT_CHARS_MAX)
    confidence: int | None = Field(default=None, ge=1, le=5)
    """Said as "CONFIDENCE: N" when the system prompt asks for it."""
    refusal: bool = False
    empty: bool = False
    tool_calls: tuple[ToolCallSpec, ...] | None = Field(default=None, min_length=1, max_length=TOOL_CALLS_MAX)
    finish_reason: str | None = Field(default=None, max_length=64)
    stop_sequence: str | None = Field(default=None, min_length=1, max_length=1_024)
    """The sequence that ended the answer; the finish reason follows."""
    usage: UsageSpec | None = None
    logprobs: LogprobSpec | None = None
    """Given only to a call that asks for them, on a wire that has them."""

    # What goes wrong.
    status: int | None = Field(default=None, ge=400, le=599)
    error_code: str | None = Field(default=None, max_length=256)
    error_type: str | None = Field(default=None, max_length=256)
    error_message: str | None = Field(default=None, max_length=4_096)
    retry_after_s: Seconds | None = None
    malformed_json: bool = False
    """The body is no JSON; with `status` the error's body is none."""
    garbage: bool = False
    """200, and a complete body that is not even text."""
    disconnect: bool = False
    """The connection closes with no response."""
    cut_after_bytes: int | None = Field(default=None, ge=0)
    """The connection closes after so many bytes of the body."""
    half_close: bool = False
    """What closes is the sending side only, until the client leaves."""
    hang: bool = False
    """No answer until the client leaves."""

    # How it is sent.
    chunk_delay_s: Seconds = 0.0
    """Wait before each content chunk of a stream, or between the pieces of a drip."""
    chunk_chars: int | None = Field(default=None, ge=1, le=TEXT_CHARS_MAX)
    """Characters per content chunk of a stream."""
    stream_error_after_chunks: int | None = Field(default=None, ge=0)
    """Streams only: after so many content chunks an error event, then the end."""
    stream_cut_after_chunks: int | None = Field(default=None, ge=0)
    """Streams only: after so many content chunks the connection closes."""
    stream_garbage_after_chunks: int | None = Field(default=None, ge=0)
    """Streams only: after so many content chunks bytes that are no text, then the end."""
    drip: bool = False
    """The body leaves a few bytes at a time."""
    drip_bytes_per_s: float | None = Field(default=None, gt=0, le=DRIP_BYTES_PER_S_MAX, allow_inf_nan=False)
    """The body leaves at this rate."""
    headers: dict[str, str] = Field(default_factory=dict, max_length=HEADERS_MAX)
    """Sent with the response, whatever its status."""

    @field_validator("headers")
    @classmethod
    def _refuse_bad_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or name in _FRAMING_HEADERS:
                raise ValueError(f"{name!r} is not a header's name in lower case, or belongs to the response's framing")
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"the value of {name!r} is not printable ASCII")
        return headers

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        def at_most_one(**given: bool) -> None:
            named = [name for name, is_given in given.items() if is_given]
            if len(named) > 1:
                raise ValueError(f"contradictory: {', '.join(named)}")

        is_error = self.status is not None
        in_stream = self.stream_error_after_chunks is not None
        at_most_one(status=is_error, garbage=self.garbage, disconnect=self.disconnect, hang=self.hang)
        at_most_one(
            malformed_json=self.malformed_json, garbage=self.garbage, disconnect=self.disconnect, hang=self.hang
        )
        at_most_one(cut_after_bytes=self.cut_after_bytes is not None, disconnect=self.disconnect, hang=self.hang)
        at_most_one(text=self.text is not None, refusal=self.refusal, empty=self.empty)
        at_most_one(tool_calls=self.tool_calls is not None, refusal=self.refusal, empty=self.empty)
        at_most_one(finish_reason=self.finish_reason is not None, stop_sequence=self.stop_sequence is not None)
        at_most_one(drip=self.drip, drip_bytes_per_s=self.drip_bytes_per_s is not None)
        at_most_one(
            stream_error_after_chunks=in_stream,
            stream_cut_after_chunks=self.stream_cut_after_chunks is not None,
            stream_garbage_after_chunks=self.stream_garbage_after_chunks is not None,
        )
        if self.retry_after_s is not None and not is_error:
            raise ValueError("retry_after_s needs status")
        told = (self.error_code, self.error_type, self.error_message)
        if any(field is not None for field in told) and not (is_error or in_stream):
            raise ValueError("error_code, error_type and error_message need status or stream_error_after_chunks")
        closes = self.disconnect or self.cut_after_bytes is not None or self.stream_cut_after_chunks is not None
        if self.half_close and not closes:
            raise ValueError("half_close needs disconnect, cut_after_bytes or stream_cut_after_chunks")
        return self


class Script(_Strict):
    """A whole script."""

    models: dict[str, Annotated[tuple[Step, ...], Field(min_length=1, max_length=STEPS_MAX)]] = Field(
        default_factory=dict, max_length=MODELS_MAX
    )
    api_key: str | None = Field(default=None, min_length=1, max_length=1024)
    """When set, a call with another key (bearer token, x-api-key) is answered with 401."""


def parse_script(value: Any) -> Script:
    """Check decoded JSON. Raises ScriptError with all faults."""
    try:
        return Script.model_validate(value)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc'])) or 'script'}: {fault['msg']}" for fault in error.errors())
        raise ScriptError("; ".join(faults)) from error


class Playback:
    """A script and how far it has been played. Not thread-safe: one event loop owns it."""

    def __init__(self, script: Script) -> None:
        """Start at the first step of every model."""
        self.script = script
        self._position: dict[str, tuple[int, int]] = {}  # list's name -> (index of the step, calls it has served)

    def next_step(self, model: str) -> Step | None:
        """Take the step that serves the next call of `model`; None means normal behaviour."""
        name = model if model in self.script.models else "*"
        steps = self.script.models.get(name)
        if steps is None:
            return None
        index, served = self._position.get(name, (0, 0))
        if served >= (steps[index].times or 1) and (index + 1 < len(steps) or steps[index].times is not None):
            index, served = index + 1, 0
            if index == len(steps):
                return None
        self._position[name] = (index, served + 1)
        return steps[index]
