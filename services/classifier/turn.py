"""Tells the question of a turn from the material pasted beside it. Pure.

Promises: reads at most TEXT_CHARACTERS_MAX characters; `question` is what is asked, `context` what it is asked about; a
turn without recognisable pasted material is all question. Linear in the length read: no pattern can backtrack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.classifier.lexicon import ASKING, CODE_LINE, DEEP_WORK, PASTED, PROCESSING

__all__ = ["TEXT_CHARACTERS_MAX", "Turn", "split_turn"]

# Head and tail are read, the middle of a longer turn is context in any case.
HEAD_CHARACTERS = 8_000
TAIL_CHARACTERS = 8_000
TEXT_CHARACTERS_MAX = HEAD_CHARACTERS + TAIL_CHARACTERS
# A paragraph that asks is short; a longer one is material, even if a question mark stands in it.
QUESTION_PARAGRAPH_CHARACTERS_MAX = 400
# Less material than this is part of the question.
CONTEXT_CHARACTERS_MIN = 160
# "Summarise: ..." - how long the words before the colon may be, and how short the text behind it.
LEAD_CHARACTERS_MAX = 240
PAYLOAD_CHARACTERS_MIN = 24
# "Here is a mail. When is the meeting?" - the asking block may be the second.
LEADING_BLOCKS_MAX = 2
# One line that looks like program text may be prose.
CODE_LINES_MIN = 2
CODE_LINE_CHARACTERS_MAX = 200
# A single block of prose is taken apart only when it is this long: below, it may be one careful question.
BLOB_CHARACTERS_MIN = 1_200
# ... or this long, when its beginning says that something is pasted.
ANNOUNCED_BLOB_CHARACTERS_MIN = 300
ANNOUNCEMENT_CHARACTERS_MAX = 160
# A short text behind a colon that itself demands this many things is no payload but the rest of the task.
PAYLOAD_DEMANDS_MAX = 1
PAYLOAD_DEMANDS_CHARACTERS_MAX = 400

_FENCE = "```"
_QUOTED_LINE = re.compile(r"^[ \t]{0,3}>", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
# Chinese and Japanese put no space after a sentence.
_SENTENCE_END = re.compile(r"(?<=[.!?।؟])\s|(?<=[。！？])")
_ASKS = ("?", "？", "؟")
_COLON = re.compile(r"[:：]")
# A character of Chinese, Japanese or Korean says about as much as three Latin ones.
_DENSE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
DENSE_CHARACTERS = 3


@dataclass(frozen=True, slots=True)
class Turn:
    """The two halves of a user turn. `context_characters` counts the part of a long turn that was not read, too."""

    question: str
    context: str
    context_characters: int
    has_code_block: bool


def _without_fences(text: str) -> tuple[str, list[str]]:
    pieces = text.split(_FENCE)
    return "\n\n".join(pieces[::2]), pieces[1::2]


def _without_quotes(text: str) -> tuple[str, list[str]]:
    if not _QUOTED_LINE.search(text):
        return text, []
    kept: list[str] = []
    quoted: list[str] = []
    for line in text.split("\n"):
        (quoted if _QUOTED_LINE.match(line) else kept).append(line)
    return "\n".join(kept), quoted


def _without_code_lines(text: str) -> tuple[str, list[str]]:
    """Program text without a fence: lines that look like it, when there are several."""
    lines = text.split("\n")
    is_code = [len(line) <= CODE_LINE_CHARACTERS_MAX and CODE_LINE.match(line) is not None for line in lines]
    if sum(is_code) < CODE_LINES_MIN or all(is_code):
        return text, []
    prose = "\n".join(line for line, code in zip(lines, is_code, strict=True) if not code)
    return prose, ["\n".join(line for line, code in zip(lines, is_code, strict=True) if code)]


def _size(text: str) -> int:
    """Its length, as if it were written in Latin letters."""
    return len(text) + (DENSE_CHARACTERS - 1) * len(_DENSE.findall(text))


def _asks(block: str) -> bool:
    ends = block.rstrip().endswith((":", "："))
    return ends or any(sign in block for sign in _ASKS) or ASKING.search(block) is not None


def _split_blocks(blocks: list[str], joint: str) -> tuple[str, str]:
    """The first and the last blocks that ask are the question; what lies between is material."""
    question: list[str] = []
    first, last = 0, len(blocks)
    for index, block in enumerate(blocks[:LEADING_BLOCKS_MAX]):
        if _size(block) > QUESTION_PARAGRAPH_CHARACTERS_MAX:
            break
        if _asks(block):
            first = index + 1
    question += blocks[:first]
    if last > first and _size(blocks[-1]) <= QUESTION_PARAGRAPH_CHARACTERS_MAX and _asks(blocks[-1]):
        question.append(blocks[-1])
        last -= 1
    context = joint.join(blocks[first:last])
    if not question or _size(context) < CONTEXT_CHARACTERS_MIN:
        return joint.join(blocks), ""
    return joint.join(question), context


def _split_lead(text: str) -> tuple[str, str]:
    """ "Translate into French: ..." - the payload of a task that works on a given text."""
    found = _COLON.search(text, 0, LEAD_CHARACTERS_MAX)
    colon = found.start() if found else -1
    if colon < 0 or not PROCESSING.search(text, 0, colon):
        return text, ""
    payload = text[colon + 1 :].strip()
    if _size(payload) < PAYLOAD_CHARACTERS_MIN:
        return text, ""
    demands = len(DEEP_WORK.findall(payload.lower())) if len(payload) <= PAYLOAD_DEMANDS_CHARACTERS_MAX else 0
    if demands > PAYLOAD_DEMANDS_MAX:
        return text, ""
    return text[:colon], payload


def split_turn(text: str) -> Turn:
    """Splits one user turn. Program text and quoted lines are material, unless there is nothing else."""
    unread = max(0, len(text) - TEXT_CHARACTERS_MAX)
    if unread:
        # The blank line keeps the head and the tail from being read as one paragraph.
        text = text[:HEAD_CHARACTERS] + "\n\n" + text[-TAIL_CHARACTERS:]
    plain, fenced = _without_fences(text)
    plain, unfenced = _without_code_lines(plain)
    fenced += unfenced
    plain, quoted = _without_quotes(plain)
    plain = plain.strip()
    context = [*fenced, *quoted]
    if not plain:
        # Nothing but a code block or a quotation: that is what is asked about, so it is all there is to judge.
        plain, context = "\n".join(context).strip(), []
    blocks = [block.strip() for block in _BLANK_LINE.split(plain) if block.strip()]
    if len(blocks) > 1:
        question, middle = _split_blocks(blocks, "\n\n")
    elif _size(plain) >= BLOB_CHARACTERS_MIN or (
        _size(plain) >= ANNOUNCED_BLOB_CHARACTERS_MIN and PASTED.search(plain, 0, ANNOUNCEMENT_CHARACTERS_MAX)
    ):
        sentences = [part.strip() for part in _SENTENCE_END.split(plain) if part.strip()]
        question, middle = _split_blocks(sentences, " ")
    else:
        question, middle = plain, ""
    if not middle:
        question, middle = _split_lead(question)
    joined = "\n".join([*context, middle]).strip()
    return Turn(
        question=question,
        context=joined,
        context_characters=len(joined) + unread,
        has_code_block=bool(fenced),
    )
