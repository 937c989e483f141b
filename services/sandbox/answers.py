"""Puts answers together: what the script's step wants said, or what was recorded, with its tokens counted.

It knows no wire. It does no I/O; the tokenizer and the clock are passed in.
"""

from collections.abc import Callable
from typing import Final

from services.sandbox.logprobs import LogprobSpec, token_logprobs
from services.sandbox.replay import Miss, Replay
from services.sandbox.rows import RecordedAnswer
from services.sandbox.script import Step
from services.sandbox.wire import Answer, ApiError, Call, ToolCall, Usage

__all__ = ["AnswerMaker"]

EXAMPLES_CONFIDENCE: Final = 4
"""Said in examples mode by an answer that has no confidence of its own."""

_CONFIDENCE_MARKER: Final = "CONFIDENCE:"
_REFUSAL: Final = "I'm sorry, but I can't help with that."
_CANNED: Final = RecordedAnswer(
    "This is Spillway's sandbox, which stands in for a model provider and has answers to a few example prompts only. "
    "For real models start Spillway with OPENAI_API_KEY set, or with OPENAI_BASE_URL set to an Ollama, a vLLM or any "
    "other OpenAI-compatible endpoint."
)


class AnswerMaker:
    """Makes the answers of one sandbox. Not thread-safe: one event loop owns it."""

    def __init__(
        self,
        replay: Replay,
        count_tokens: Callable[[str], int],
        *,
        examples_mode: bool,
        clock: Callable[[], float],
    ) -> None:
        """Build it. `clock` gives Unix seconds. In examples mode unknown prompts get a canned answer."""
        self._replay = replay
        self._count_tokens = count_tokens
        self._examples_mode = examples_mode
        self._clock = clock
        # At most one entry per recorded answer, filled as they are asked for.
        self._answer_tokens: dict[RecordedAnswer, int] = {}

    def make(self, call: Call, step: Step, *, answer_id: str, tool_call_id_prefix: str) -> Answer:
        """Put an answer together. Raises ApiError (404) when neither script nor recording has one."""
        text, confidence, logprobs, completion_tokens = self._text(call, step)
        if text and confidence is not None and call.system_says(_CONFIDENCE_MARKER):
            line = f"\nCONFIDENCE: {confidence}"
            text += line
            completion_tokens += self._count_tokens(line)
        tool_calls = tuple(
            ToolCall(spec.id or f"{tool_call_id_prefix}{answer_id}_{index}", spec.name, spec.arguments)
            for index, spec in enumerate(step.tool_calls or ())
        )
        finish_reason = "tool_calls" if tool_calls else "stop"
        if step.stop_sequence is not None:
            finish_reason = "stop_sequence"
        return Answer(
            id=answer_id,
            created=int(self._clock()),
            model=call.model,
            text=text,
            tool_calls=tool_calls,
            finish_reason=step.finish_reason or finish_reason,
            usage=self._usage(call, step, tool_calls, completion_tokens),
            logprobs=None
            if logprobs is None or call.top_logprobs is None or text is None
            else token_logprobs(text, logprobs),
            top_logprobs=call.top_logprobs or 0,
            stop_sequence=step.stop_sequence,
        )

    def _text(self, call: Call, step: Step) -> tuple[str | None, int | None, LogprobSpec | None, int]:
        """Choose the text; give it with its confidence, its log-probabilities and its tokens."""
        if step.refusal:
            return _REFUSAL, step.confidence, step.logprobs, self._count_tokens(_REFUSAL)
        if step.empty:
            return "", step.confidence, step.logprobs, 0
        if step.text is not None:
            return step.text, step.confidence, step.logprobs, self._count_tokens(step.text)
        if step.tool_calls is not None:
            return None, step.confidence, step.logprobs, 0
        recorded = self._find(call)
        tokens = self._answer_tokens.get(recorded)
        if tokens is None:
            tokens = self._answer_tokens[recorded] = self._count_tokens(recorded.text)
        confidence = step.confidence or recorded.confidence or (EXAMPLES_CONFIDENCE if self._examples_mode else None)
        return recorded.text, confidence, recorded.logprobs if step.logprobs is None else step.logprobs, tokens

    def _usage(self, call: Call, step: Step, tool_calls: tuple[ToolCall, ...], completion_tokens: int) -> Usage:
        told = step.usage
        if told is not None:
            return Usage(
                told.prompt_tokens,
                told.completion_tokens,
                cached_tokens=told.cached_tokens,
                cache_creation_tokens=told.cache_creation_tokens,
                reasoning_tokens=told.reasoning_tokens,
            )
        completion_tokens += sum(self._count_tokens(f"{tool.name} {tool.arguments}") for tool in tool_calls)
        prompt_tokens = sum(self._count_tokens(message.text) for message in call.messages)
        return Usage(prompt_tokens + self._count_tokens(call.tools_json), completion_tokens)

    def _find(self, call: Call) -> RecordedAnswer:
        found = self._replay.find(call.user_texts, call.model)
        if isinstance(found, RecordedAnswer):
            return found
        if self._examples_mode:
            return _CANNED
        if found is Miss.UNKNOWN_PROMPT:
            raise ApiError(404, "No message of the user is a recorded prompt.", code=found.value)
        raise ApiError(
            404, f"No answer of the model '{call.model}' is recorded.", code=Miss.MODEL_NOT_FOUND.value, param="model"
        )
