"""OpenAI's embeddings: a wire and a maker of vectors, behind the same script and journal as answers.

The vectors are made from the words of the text: like texts are near each other, the same text always has the same
vector, and nothing is meant by it. Pure: no sockets, no clock, no state.
"""

import base64
import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from services.sandbox.openai_api import OpenAIWire, invalid_value
from services.sandbox.script import Step
from services.sandbox.wire import Answer, Call, Frame, Message, Usage, parse_object

__all__ = ["DIMENSIONS_DEFAULT", "EmbeddingMaker", "EmbeddingsWire"]

DIMENSIONS_DEFAULT: Final = 64
DIMENSIONS_MAX: Final = 8_192
INPUTS_MAX: Final = 2_048
"""As OpenAI has it."""


class EmbeddingsWire(OpenAIWire):
    """POST /v1/embeddings."""

    name = "openai_embeddings"
    answer_id_prefix = "embd-sandbox-"
    broken_json = b'{"object":"list","data":[{"object":"embedding","index":0,"embe'

    def parse(self, headers: Mapping[str, str], body: bytes) -> Call:
        """Read a request: each input is a message. Raises ApiError (400)."""
        value = parse_object(body)
        model = value.pop("model", None)
        if not isinstance(model, str) or not model:
            raise invalid_value("model", "you must provide a model")
        given = value.pop("input", None)
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not 1 <= len(texts) <= INPUTS_MAX:
            raise invalid_value("input", f"not a string, nor a list of 1 to {INPUTS_MAX} strings")
        if not all(isinstance(text, str) and text for text in texts):
            raise invalid_value("input", "tokens and empty strings are not supported")
        if value.get("encoding_format", "float") not in ("float", "base64"):
            raise invalid_value("encoding_format", "neither float nor base64")
        dimensions = value.get("dimensions", DIMENSIONS_DEFAULT)
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= DIMENSIONS_MAX:
            raise invalid_value("dimensions", f"not a whole number from 1 to {DIMENSIONS_MAX}")
        messages = tuple(Message("user", text) for text in texts)
        return Call(model=model, messages=messages, stream=False, tools_json="", parameters=value)

    def answer_body(self, answer: Answer) -> dict[str, Any]:
        """Render the vectors, which are the answer's text."""
        usage = {"prompt_tokens": answer.usage.prompt_tokens, "total_tokens": answer.usage.prompt_tokens}
        return {"object": "list", "data": json.loads(answer.text or "[]"), "model": answer.model, "usage": usage}

    def frames(self, answer: Answer, call: Call, chunk_chars: int) -> Iterator[Frame]:
        """Nothing asks for a stream of embeddings."""
        return iter(())


class EmbeddingMaker:
    """Makes the answers. A step's `text` is the JSON to send as `data` instead."""

    def __init__(self, count_tokens: Callable[[str], int], clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self._count_tokens = count_tokens
        self._clock = clock

    def make(self, call: Call, step: Step, *, answer_id: str, tool_call_id_prefix: str) -> Answer:
        """Put an answer together."""
        as_base64 = call.parameters.get("encoding_format") == "base64"
        dimensions = call.parameters.get("dimensions", DIMENSIONS_DEFAULT)
        data = []
        for index, message in enumerate(call.messages):
            values = _vector(message.text, dimensions)
            packed = base64.b64encode(array("f", values).tobytes()).decode("ascii") if as_base64 else values
            data.append({"object": "embedding", "index": index, "embedding": packed})
        return Answer(
            id=answer_id,
            created=int(self._clock()),
            model=call.model,
            text=json.dumps(data) if step.text is None else step.text,
            tool_calls=(),
            finish_reason="stop",
            usage=Usage(sum(self._count_tokens(message.text) for message in call.messages), 0),
        )


def _vector(text: str, dimensions: int) -> list[float]:
    """Unit length: each word adds to a few places that its hash names."""
    values = [0.0] * dimensions
    for word in ["", *text.lower().split()]:
        digest = hashlib.blake2b(word.encode(), digest_size=32).digest()
        for start in range(0, len(digest), 4):
            place = int.from_bytes(digest[start : start + 3]) % dimensions
            values[place] += 1.0 if digest[start + 3] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in values))
    if length == 0.0:
        return [1.0] + [0.0] * (dimensions - 1)
    return [value / length for value in values]
