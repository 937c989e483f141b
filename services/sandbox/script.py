"""Scripts: what the sandbox is told to do with the calls of a model, one step per call.

A script is `{"api_key"?: KEY, "models": {MODEL or "*": [STEP, ...]}}`. The steps of a model serve its calls in order,
each as many calls as its `times` says (1). The last step repeats for ever, unless it says `times` itself: then calls
behave normally after it. `"*"` serves the models without steps of their own, and they share its position. A step with
no fields is normal behaviour.

Pure: no I/O and no clock; who plays a step is in `provider`. Unknown keys and contradictory steps are refused.
"""

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = ["Playback", "Script", "ScriptError", "Step", "ToolCallSpec", "UsageSpec", "parse_script"]

STEPS_MAX: Final = 10_000
"""Steps per model: far more than a test needs."""
MODELS_MAX: Final = 1_000
SECONDS_MAX: Final = 3_600.0
"""The longest latency or delay."""
TEXT_CHARS_MAX: Final = 4 * 1024 * 1024
TOOL_CALLS_MAX: Final = 128

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
    completion_tokens: Tokens


class Step(_Strict):
    """What happens to one call. All fields absent: normal behaviour."""

    times: int | None = Field(default=None, ge=1, le=10**9)
    """How many calls the step serves."""

    latency_s: Seconds = 0.0
    """Wait before anything is sent."""

    # What is answered. Without any of these the answer is the normal one.
    text: str | None = Field(default=None, max_length=TEXT_CHARS_MAX)
    confidence: int | None = Field(default=None, ge=1, le=5)
    """Said as "CONFIDENCE: N" when the system prompt asks for it."""
    refusal: bool = False
    empty: bool = False
    tool_calls: tuple[ToolCallSpec, ...] | None = Field(default=None, min_length=1, max_length=TOOL_CALLS_MAX)
    finish_reason: str | None = Field(default=None, max_length=64)
    usage: UsageSpec | None = None

    # What goes wrong.
    status: int | None = Field(default=None, ge=400, le=599)
    error_code: str | None = Field(default=None, max_length=256)
    retry_after_s: Seconds | None = None
    malformed_json: bool = False
    """The body is no JSON; with `status` the error's body is none."""
    disconnect: bool = False
    """The connection closes with no response."""
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
    drip: bool = False
    """The body leaves a few bytes at a time."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        def at_most_one(**given: bool) -> None:
            named = [name for name, is_given in given.items() if is_given]
            if len(named) > 1:
                raise ValueError(f"contradictory: {', '.join(named)}")

        is_error = self.status is not None
        at_most_one(status=is_error, disconnect=self.disconnect, hang=self.hang)
        at_most_one(malformed_json=self.malformed_json, disconnect=self.disconnect, hang=self.hang)
        at_most_one(text=self.text is not None, refusal=self.refusal, empty=self.empty)
        at_most_one(tool_calls=self.tool_calls is not None, refusal=self.refusal, empty=self.empty)
        at_most_one(
            stream_error_after_chunks=self.stream_error_after_chunks is not None,
            stream_cut_after_chunks=self.stream_cut_after_chunks is not None,
        )
        if not is_error and (self.error_code is not None or self.retry_after_s is not None):
            raise ValueError("error_code and retry_after_s need status")
        return self


class Script(_Strict):
    """A whole script."""

    models: dict[str, Annotated[tuple[Step, ...], Field(min_length=1, max_length=STEPS_MAX)]] = Field(
        default_factory=dict, max_length=MODELS_MAX
    )
    api_key: str | None = Field(default=None, min_length=1, max_length=1024)
    """When set, a call with another bearer token is answered with 401."""


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
