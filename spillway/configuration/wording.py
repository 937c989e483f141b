"""What pydantic says of a value in spillway.yaml, in words for who wrote the file.

Promises: pure; never quotes a value, which may be a secret in the wrong place. A key that does not exist comes with
the one that may have been meant, or with those that there are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

__all__ = ["PATTERNS", "wording"]

KEYS_SHOWN_MAX: Final = 16
_LIKE_MIN: Final = 0.6  # of difflib's ratio
_VALUE_ERROR: Final = "Value error, "

PATTERNS: Final = {
    r"^https?://\S+$": "must begin with http:// or https://, and have no spaces",
    r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,63}$": (
        "must be 1 to 64 letters, digits and . _ / : @ -, beginning with a letter or a digit"
    ),
    r"^([a-z]{2})?$": "must be a language of two small letters, e.g. en; empty: any",
    r"^[a-z]{2}$": "must be a language of two small letters, e.g. en",
    r"^([01][0-9]|2[0-3]):[0-5][0-9]$": "must be a time of day in quotes, e.g. '09:30'",
    r"^(sqlite|postgresql)(\+[a-z]+)?://": "must begin with sqlite:// or postgresql://",
    r"^$|^[^\s/]+:\d{1,5}$": "must be host:port; empty: none",
    r"^[^\s*,]{1,255}$": "must be one name of a certificate, without spaces, commas and *",
}
"""Of every pattern in the schema what it asks for."""

_SENTENCES: Final = {
    "missing": "is missing",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be keys with values",
    "model_type": "must be keys with values",
    "model_attributes_type": "must be keys with values",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "its {discriminator} must be one of {expected_tags}",
    "union_tag_not_found": "needs the key {discriminator}",
}


def wording(root: type[BaseModel], wrong: Mapping[str, Any]) -> str:
    """The sentence for one of `ValidationError.errors()` of `root`; its own message where there is no better one."""
    kind, context = str(wrong["type"]), wrong.get("ctx", {})
    if kind == "extra_forbidden":
        *place, key = wrong["loc"]
        return _unknown(str(key), _keys(root, place))
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(str(context.get("pattern", "")), str(wrong["msg"]))
    sentence = _SENTENCES.get(kind)
    if sentence is None:
        return str(wrong["msg"]).removeprefix(_VALUE_ERROR)
    shown = {name: _plain(value) for name, value in context.items()}
    try:
        text = sentence.format_map(shown)
    except KeyError:  # another version of pydantic names it otherwise
        return str(wrong["msg"])
    return text.replace("at least 1 entries", "at least one entry").replace("least 1 characters", "least one character")


def _unknown(key: str, keys: Sequence[str]) -> str:
    like = difflib.get_close_matches(key, keys, n=1, cutoff=_LIKE_MIN)
    if like:
        return f"is an unknown key; did you mean {like[0]}?"
    if 0 < len(keys) <= KEYS_SHOWN_MAX:
        return f"is an unknown key; there are {', '.join(keys)}"
    return "is an unknown key"


def _keys(root: type[BaseModel], place: Iterable[str | int]) -> list[str]:
    """What may stand at a place. Names of providers and the like, and indices, choose nothing."""
    models: list[type[BaseModel]] = [root]
    for part in place:
        inner = [
            found
            for model in models
            if part in model.model_fields
            for found in _models(model.model_fields[str(part)].annotation)
        ]
        tagged = [model for model in models if _is_tagged(model, part)]
        models = inner or tagged or models
    return sorted({name for model in models for name in model.model_fields})


def _is_tagged(model: type[BaseModel], tag: str | int) -> bool:
    """Whether one of its keys tells it from others by this word, e.g. a gate by its kind."""
    return any(
        get_origin(field.annotation) is Literal and tag in get_args(field.annotation)
        for field in model.model_fields.values()
    )


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type, e.g. those of the entries of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models(argument)]


def _plain(value: Any) -> str:
    """1.0 as 1."""
    return f"{value:g}" if isinstance(value, float) else str(value)
