r"""Finds the final answer in what a model wrote, so that two answers can be compared.

Promises: pure; never raises on any text; linear in the text, of which at most `TEXT_CHARS_MAX` characters are read
(the end counts: conclusions stand there). Looked for in this order, the last one of a kind winning:
a JSON object's "answer" field (fenced or bare, even when the JSON is slightly broken or cut off after it),
"#### 42" on the last line, `\boxed{...}`, "the final answer is ...". Without any of these there is no marked answer.
"""

from __future__ import annotations

import json
import math
import re
from typing import Final

__all__ = ["TEXT_CHARS_MAX", "final_answer", "last_number", "nesting_depth", "unfenced"]

TEXT_CHARS_MAX: Final = 200_000
_JSON_DEPTH_MAX: Final = 64
_PHRASE_CHARS_MAX: Final = 2_000

_KEYS: Final = r"(?:final[ _-]?answer|answer|final[ _-]?result|result|output)"
_KEY: Final = re.compile(rf"""["']({_KEYS})["']\s{{0,8}}:\s{{0,64}}""", re.IGNORECASE)
_FENCE: Final = re.compile(r"\A\s*```[A-Za-z0-9_+-]{0,20}[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_HASHES: Final = re.compile(r"(?:^|(?<=\s))####[ \t]*(\S[^\n]*?)\s*\Z")  # on the last line: elsewhere it is a heading
_BOXED: Final = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{")
_PHRASE: Final = re.compile(
    r"(?:final\s{1,4}answer|correct\s{1,4}(?:answer|option|choice)|answer|r[ée]ponse(?:\s{1,4}finale)?|antwort|respuesta|"
    r"resposta|risposta|antwoord|odpowied[źz]|ответ|答案|最终答案|答え)[\s*_]{0,6}"
    r"(?:(?:is|are|equals|ist|lautet|est|es|é|è|to|=|是|为|は|：|:)[\s*_:：]{1,6}|[：=]\s{0,4})",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(
    r"(?<![\w.])[-−]?[$€£¥]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+)?%?(?![\d])",
)


def final_answer(text: str) -> str | None:
    """The answer that `text` marks as final, or None."""
    text = text[-TEXT_CHARS_MAX:]
    found = _from_json(text)
    if found is not None:
        return found
    hashes = _HASHES.search(text.rstrip().rpartition("\n")[2])
    if hashes is not None:
        return hashes.group(1).strip()
    boxed = _last(_BOXED, text)
    if boxed is not None:
        return _braced(text, boxed.end())
    phrase = _last(_PHRASE, text)
    if phrase is not None:
        said = _phrase(text[phrase.end() : phrase.end() + _PHRASE_CHARS_MAX])
        if said:
            return said
    return None


def last_number(text: str) -> str | None:
    """The last number written in `text`, as written."""
    match = _last(_NUMBER, text[-TEXT_CHARS_MAX:])
    return None if match is None else match.group(0).strip()


def unfenced(text: str) -> str:
    """`text` without one markdown fence around the whole of it."""
    match = _FENCE.match(text)
    return match.group(1).strip() if match else text.strip()


def nesting_depth(text: str) -> int:
    """How deep brackets nest outside strings. An upper bound is enough: json and ast recurse on it."""
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{(":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]})":
            depth -= 1
    return deepest


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return found


def _from_json(text: str) -> str | None:
    matches = list(_KEY.finditer(text))
    if not matches:
        return None
    answers = [match for match in matches if "answer" in match.group(1).casefold()]
    match = (answers or matches)[-1]
    if not answers and not text[: match.start()].rstrip().endswith(("{", ",")):
        return None  # "result" and "output" are common words: only as a key of an object
    return _json_value(text[match.end() :])


def _json_value(rest: str) -> str | None:
    """The JSON value at the start of `rest`; of a broken string what can be read of it."""
    if rest[:1] in ('"', "'"):
        return _json_string(rest)
    end = re.search(r"[\n}]", rest) if rest[:1] not in ("[", "{") else None
    bare = rest[: end.start()] if end else rest
    try:
        if nesting_depth(bare) > _JSON_DEPTH_MAX:
            return None
        value, end_of_value = json.JSONDecoder(strict=False, parse_float=_finite).raw_decode(bare)
    except (ValueError, RecursionError):
        # Not JSON: a bare word, a Python literal, a fraction. What stands there is the answer.
        cleaned = bare.split("\n", 1)[0].strip().rstrip(",").strip()
        return cleaned or None
    tail = bare[end_of_value:].strip()
    if tail not in ("", ",") and not isinstance(value, (dict, list)):
        return bare.strip().rstrip(",")  # "3/4", "12 apples" without quotes
    return json.dumps(value, ensure_ascii=False)


def _json_string(rest: str) -> str | None:
    quote = rest[0]
    if quote == '"':
        try:
            value, end = json.JSONDecoder(strict=False).raw_decode(rest)
            # A quote that was not escaped ends the string early: what follows must be the object's next token.
            if re.match(r"\s*(?:[,}\]]|\Z|```)", rest[end:]):
                return _with_backslashes(str(value)).strip()
        except ValueError:
            pass
    # Backslashes of LaTeX, raw quotes inside, or cut off: up to the quote that ends the object, else to the end.
    close = re.search(rf"{quote}\s*(?:\}}|,\s*\"|\Z|```)", rest[1:])
    raw = rest[1 : 1 + close.start()] if close else rest[1:].split("\n", 1)[0]
    raw = raw.replace('\\"', '"').replace("\\\\", "\\").strip()
    return raw or None


def _finite(text: str) -> float:
    """The number; ValueError for one that would be read as infinite, as every such number would."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("too large")
    return value


def _with_backslashes(text: str) -> str:
    r"""TeX that was not escaped in JSON: "\frac" was read as a form feed and "rac"."""
    text = text.replace("\f", "\\f").replace("\b", "\\b")
    return re.sub(r"\t(?=(?:ext|imes|heta|an)(?![a-z]))", r"\\t", text)


def _braced(text: str, start: int) -> str:
    """What stands in the braces that open just before `start`; to the end of the text when they never close."""
    depth = 1
    index = start
    while index < len(text) and depth:
        if text[index] == "\\":
            index += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        index += 1
    return (text[start : index - 1] if depth == 0 else text[start:]).strip()


def _phrase(rest: str) -> str:
    """The first sentence or line of `rest`, without markup. A point ends it only before a space or at the end."""
    line = next((line for line in rest.split("\n") if line.strip(" *_`:\t")), "")
    line = re.split(r"(?<=[^\s.])[.。](?=\s|\Z)(?!\s\d)", line, maxsplit=1)[0]
    boxed = _last(_BOXED, line)
    if boxed is not None:
        return _braced(line, boxed.end())
    return line.strip().strip("*_`").strip()
