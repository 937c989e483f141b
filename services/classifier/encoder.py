"""Texts in, unit vectors out: the tokenizer and the ONNX session, synchronous and thread-safe.

Promises: at most `characters_max(tokens_max)` characters of a text reach the tokenizer and at most `tokens_max` tokens
the model, by a fixed rule (head and tail are kept, the middle is dropped); any Python string is accepted, lone
surrogates and NUL included; the empty text has a finite vector. Nothing is told to the makers of the native libraries.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from services.classifier.model import TOKENS_MAX, ModelCorruptError, ModelFiles, Pooling

# onnxruntime reports to its makers unless it is told otherwise before its import: it looks up their host and keeps a
# database under ~/.cache. Its own call for that, after the import, comes too late. No other module imports it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["CHARACTERS_MAX", "TOKENS_MAX", "Encoder", "characters_max", "cut_text", "cut_tokens"]

# Of each side of a long text, for each token that the model takes: 16 for each token kept there, so that the cut in
# characters never decides which ordinary words are read.
SIDE_CHARACTERS_PER_TOKEN = 8
# What a graph may ask for; anything else (past keys, pictures) is no export of a sentence-transformer.
INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
INTEGERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
TEXT_RANK = 2
TOKEN_RANK = 3
LENGTH_MIN = 1e-12

Vectors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.int64]


def characters_max(tokens_max: int) -> int:
    """The most characters of a text that are read for a model of `tokens_max`."""
    return 2 * SIDE_CHARACTERS_PER_TOKEN * tokens_max + 1


CHARACTERS_MAX = characters_max(TOKENS_MAX)


def cut_text(text: str, tokens_max: int = TOKENS_MAX) -> str:
    """All of a short text; of a long one its head, a line break, its tail: `characters_max(tokens_max)` together.

    Lone surrogates, which UTF-8 cannot carry, become U+FFFD.
    """
    if len(text) > characters_max(tokens_max):
        side = SIDE_CHARACTERS_PER_TOKEN * tokens_max
        text = text[:side] + "\n" + text[-side:]
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


def cut_tokens(ids: Sequence[int], tokens_max: int = TOKENS_MAX, *, before: int = 1, after: int = 1) -> Sequence[int]:
    """At most `tokens_max` of the tokens: of a long text the first half of them, and its last ones.

    `before` and `after` count the special tokens around the text ([CLS], [SEP]), which stay.
    """
    if len(ids) <= tokens_max:
        return ids
    head = before + tokens_max // 2
    return [*ids[:head], *ids[len(ids) - (tokens_max - head) :]] if tokens_max > head + after else ids[:tokens_max]


class Encoder:
    """One loaded model. `encode` may be called from several threads at once; it releases the GIL while it computes."""

    __slots__ = (
        "_after", "_before", "_inputs", "_output", "_padding", "_pooling", "_session", "_tokenizer", "dimensions",
        "model_id", "tokens_max",
    )  # fmt: skip

    def __init__(self, files: ModelFiles, *, threads: int) -> None:
        """Loads the model (about 0.3 s). `threads`: cores for one batch, 1 being the best throughput.

        Raises ModelCorruptError for files that cannot be read and graphs that are no text encoder.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # Errors reach us as exceptions; its own lines on stderr would break the JSON log.
        options.log_severity_level = 4
        try:
            # The native libraries raise bare Exception subclasses of their own; the file's hash was right, so it is
            # the library that cannot read it.
            self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
            self._session = onnxruntime.InferenceSession(str(files.onnx), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            message = f"the embedding model cannot be loaded ({type(error).__name__})"
            raise ModelCorruptError(message) from error
        self._padding = int((self._tokenizer.padding or {}).get("pad_id", 0))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        special = self._tokenizer.encode("a").special_tokens_mask
        text_at = special.index(0) if 0 in special else len(special)
        self._before = text_at
        self._after = len(special) - text_at - special.count(0)
        self.model_id = files.model_id
        self.tokens_max = files.tokens_max
        self._pooling = files.pooling
        self._inputs = {entry.name: INTEGERS.get(entry.type) for entry in self._session.get_inputs()}
        self._output = self._choose_output()
        if "input_ids" not in self._inputs or not INPUTS.issuperset(self._inputs) or None in self._inputs.values():
            message = f"the graph wants {', '.join(sorted(self._inputs))}: it is no export of a sentence-transformer"
            raise ModelCorruptError(message)
        try:
            self.dimensions = int(self._compute([self._ids("a")]).shape[1])
        except Exception as error:
            message = f"the embedding model does not compute ({type(error).__name__})"
            raise ModelCorruptError(message) from error

    def cut(self, text: str) -> str:
        """What is read of `text`; texts that are cut alike have the same vector."""
        return cut_text(text, self.tokens_max)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 [len(texts), dimensions]. All are padded to the longest: give texts of like length."""
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        # One by one: encode_batch would start a thread pool of its own.
        return self._compute([self._ids(text) for text in texts])

    def _ids(self, text: str) -> Sequence[int]:
        ids = self._tokenizer.encode(self.cut(text)).ids
        # Without special tokens the empty text has none at all.
        return cut_tokens(ids, self.tokens_max, before=self._before, after=self._after) or [self._padding]

    def _choose_output(self) -> tuple[str, int]:
        """The name and the rank of what to read: a vector for each text if there is one, else one for each token."""
        ranks = {entry.name: len(entry.shape or ()) for entry in self._session.get_outputs()}
        named = ["embedding", "sentence_embedding", "token_embeddings", "last_hidden_state", *ranks]
        for rank in (TEXT_RANK, TOKEN_RANK):
            for name in named:
                # A pooler's output is a classifier's of the next sentence, not the sentence's vector.
                if ranks.get(name) == rank and name != "pooler_output":
                    return name, rank
        message = f"the graph gives {', '.join(ranks)}: none is a vector for each text or token"
        raise ModelCorruptError(message)

    def _compute(self, rows: Sequence[Sequence[int]]) -> Vectors:
        ids = np.full((len(rows), max(map(len, rows))), self._padding, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        if "position_ids" in self._inputs:
            feeds["position_ids"] = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
        given = {name: feeds[name].astype(kind, copy=False) for name, kind in self._inputs.items()}
        name, rank = self._output
        (found,) = self._session.run([name], given)
        return _unit(np.asarray(found, dtype=np.float32) if rank == TEXT_RANK else _pool(found, mask, self._pooling))


def _pool(tokens: Vectors, mask: Mask, pooling: Pooling) -> Vectors:
    """[texts, tokens, d] -> [texts, d]."""
    if pooling is Pooling.CLS:
        return np.asarray(tokens[:, 0], dtype=np.float32)
    counts = mask.sum(axis=1)
    if pooling is Pooling.LAST:
        return np.asarray(tokens[np.arange(len(tokens)), counts - 1], dtype=np.float32)
    weighted = np.einsum("btd,bt->bd", tokens, mask.astype(np.float32))
    return np.asarray(weighted / counts[:, None], dtype=np.float32)


def _unit(vectors: Vectors) -> Vectors:
    """Rows of length 1, whether or not the model's own last step makes them so: who compares them relies on it."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result = np.asarray(vectors / np.maximum(lengths, LENGTH_MIN), dtype=np.float32)
    result[lengths[:, 0] <= LENGTH_MIN, 0] = 1.0
    return result
