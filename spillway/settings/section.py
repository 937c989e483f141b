"""What every part of the file is made of."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

__all__ = ["BaseUrl", "Name", "Ratio", "Seconds", "Section", "VariableName"]

_ENDINGS: Final = ("/chat/completions", "/completions", "/messages", "/embeddings")
_VARIABLE_NAME: Final = r"^([A-Za-z_][A-Za-z0-9_]{0,127})?$"


def _variable_name(value: str) -> str:
    # The message says nothing of the value: it may be the secret itself.
    if not re.fullmatch(_VARIABLE_NAME, value):
        raise PydanticCustomError(
            "variable_name",
            "must be the name of an environment variable (letters, digits and _): the secret itself never stands here",
        )
    return value


def _base_url(value: str) -> str:
    ending = next((each for each in _ENDINGS if value.rstrip("/").endswith(each)), "")
    if ending:
        raise PydanticCustomError("base_url", f"must end before {ending}, which Spillway adds itself")
    return value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,63}$", description="1 to 64 characters.")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Ratio = Annotated[float, Field(ge=0, le=1)]
BaseUrl = Annotated[
    str, Field(pattern=r"^https?://\S+$", description="Up to and including /v1."), AfterValidator(_base_url)
]
VariableName = Annotated[str, AfterValidator(_variable_name), Field(json_schema_extra={"pattern": _VARIABLE_NAME})]
"""The environment variable that holds a secret; empty names none."""


class Section(BaseModel):
    """A part of the file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
