"""Which answer was served: so that what is learned of it later is not held against another one under the same key.

Promises: pure; the same for answers that say the same, whatever they cost and whoever gave them.
"""

from __future__ import annotations

import hashlib
from typing import Final

from services.cache.entry import Answer

__all__ = ["VERSION_CHARS", "answer_version"]

VERSION_CHARS: Final = 16


def answer_version(answer: Answer) -> str:
    """VERSION_CHARS hexadecimal digits."""
    calls = [(call.name, call.arguments_json) for call in answer.message.tool_calls]
    said = repr((answer.message.text, calls)).encode()  # as it escapes lone surrogates, any text passes
    return hashlib.blake2b(said, digest_size=VERSION_CHARS // 2).hexdigest()
