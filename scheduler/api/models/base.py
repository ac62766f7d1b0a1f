"""What all that goes over the wire has in common."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Time = Annotated[str, Field(description="ISO 8601 with an offset", json_schema_extra={"format": "date-time"})]


# Nothing that moves a terminal's cursor, ends a line, or turns the direction of writing.
_PRINTABLE: Final = r"[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*"


def _printable(text: str) -> str:
    if not re.fullmatch(_PRINTABLE, text):
        raise ValueError("it has characters that cannot be printed")
    return text


Reason = Annotated[
    str,
    Field(
        max_length=1_000,
        description="why, for the record",
        json_schema_extra={"pattern": f"^{_PRINTABLE}$"},
    ),
    AfterValidator(_printable),
]


class Model(BaseModel):
    """Strict, so that a misspelt key is an error and no number becomes a text."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Query(BaseModel):
    """What follows the `?`, where all is text."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
