"""The lookup from a conversation to the recorded answer of the model asked for.

Pure: rows in, a lookup out; it answers the same question the same way for ever. Only the user's messages are looked
at, so that a caller may add gate instructions or escalation notes in other messages.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from services.sandbox.rows import RecordedAnswer, Row

__all__ = ["Miss", "Replay"]


class Miss(enum.Enum):
    """Why there is no recorded answer. The value is the error code on the wire."""

    UNKNOWN_PROMPT = "unknown_prompt"
    MODEL_NOT_FOUND = "model_not_found"


class Replay:
    """Recorded answers by prompt and model. Immutable once built."""

    def __init__(
        self, rows: Iterable[Row], aliases: Mapping[str, str] = MappingProxyType({}), *, by_words: bool = False
    ) -> None:
        """Index the rows. `aliases` maps a name that callers use to the model's name in the rows.

        A prompt that comes twice keeps the first answer of each model. With `by_words` neither capitals nor spaces nor
        the marks at the end matter: all that a cache may forgive in the same words gets the same answer here.
        """
        self._aliases = dict(aliases)
        self._by_words = by_words
        self._answers: dict[str, dict[str, RecordedAnswer]] = {}
        for row in rows:
            known = self._answers.setdefault(self._key(row.prompt), {})
            for model, answer in row.answers.items():
                known.setdefault(model, answer)
        in_rows = {model for answers in self._answers.values() for model in answers}
        self.models: tuple[str, ...] = tuple(sorted(in_rows | set(self._aliases)))

    def __len__(self) -> int:
        """Count the distinct prompts."""
        return len(self._answers)

    def find(self, user_texts: Sequence[str], model: str) -> RecordedAnswer | Miss:
        """Find what `model` answered. Of several known prompts in one conversation the last counts."""
        for text in reversed(user_texts):
            answers = self._answers.get(self._key(text))
            if answers is not None:
                return answers.get(self._aliases.get(model, model), Miss.MODEL_NOT_FOUND)
        return Miss.UNKNOWN_PROMPT

    def _key(self, prompt: str) -> str:
        return " ".join(prompt.casefold().split()).rstrip("?!. ") if self._by_words else prompt.strip()
