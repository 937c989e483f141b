"""Texts in, unit vectors out: the tokenizer and the ONNX session, synchronous and thread-safe.

Promises: at most CHARACTERS_MAX characters of a text reach the tokenizer and at most TOKENS_MAX tokens the model, by a
fixed rule (head and tail are kept, the middle is dropped); any Python string is accepted, lone surrogates and NUL
included; the empty text has a finite vector. Nothing is told to the makers of the native libraries.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from services.classifier.model import DIMENSIONS, ModelCorruptError, ModelFiles

# onnxruntime reports to its makers unless it is told otherwise before its import: it looks up their host and keeps a
# database under ~/.cache. Its own call for that, after the import, comes too late. No other module imports it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["CHARACTERS_MAX", "TOKENS_MAX", "Encoder", "cut_text", "cut_tokens"]

# The model was trained on at most 256 tokens, [CLS] and [SEP] included (sentence_bert_config.json).
TOKENS_MAX = 256
HEAD_TOKENS = 128
TAIL_TOKENS = TOKENS_MAX - 2 - HEAD_TOKENS
# 16 characters for each token kept, so that the cut in characters never decides which ordinary words are read.
HEAD_CHARACTERS = 2_048
TAIL_CHARACTERS = 2_048
CHARACTERS_MAX = HEAD_CHARACTERS + 1 + TAIL_CHARACTERS


def cut_text(text: str) -> str:
    """At most CHARACTERS_MAX characters: all of a short text, else its head, a line break, its tail.

    Lone surrogates, which UTF-8 cannot carry, become U+FFFD.
    """
    if len(text) > CHARACTERS_MAX:
        text = text[:HEAD_CHARACTERS] + "\n" + text[-TAIL_CHARACTERS:]
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return text


def cut_tokens(ids: Sequence[int]) -> Sequence[int]:
    """[CLS] tokens [SEP], cut to TOKENS_MAX: the first 128 tokens of the text and its last 126."""
    if len(ids) <= TOKENS_MAX:
        return ids
    return [*ids[: 1 + HEAD_TOKENS], *ids[-TAIL_TOKENS - 1 :]]


class Encoder:
    """One loaded model. `encode` may be called from several threads at once; it releases the GIL while it computes."""

    __slots__ = ("_session", "_tokenizer", "model_id")

    def __init__(self, files: ModelFiles, *, threads: int) -> None:
        """Loads the model (about 0.3 s). `threads`: cores for one batch, 1 being the best throughput."""
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
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.model_id = files.model_id

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit vectors, float32 [len(texts), 384]. All texts are padded to the longest: give texts of like length."""
        if not texts:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        # One by one: encode_batch would start a thread pool of its own.
        rows = [cut_tokens(self._tokenizer.encode(cut_text(text)).ids) for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        (vectors,) = self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        return np.asarray(vectors, dtype=np.float32)
