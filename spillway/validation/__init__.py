"""The ranges that the comments in protos/ promise, checked at the doors of the orchestrator and the executor.

Promises: pure; a check collects what is wrong (at most VIOLATIONS_MAX places) and raises one InvalidValue; its texts
are constant and never quote the request. Numbers that are NaN or infinite are out of every range. JSON is only read
here, in bounds; whether a schema is a schema is for who has a validator.
"""

from __future__ import annotations

from spillway.validation.aftermath import (
    check_feedback,
    check_grades,
    check_job_key,
    check_job_submission,
)
from spillway.validation.chat import (
    IMAGE_BYTES_MAX,
    SCHEMA_BYTES_MAX,
    SCHEMA_DEPTH_MAX,
    TOOLS_MAX,
    check_chat_request,
)
from spillway.validation.plan import check_plan
from spillway.validation.request import (
    LABEL_CHARS_MAX,
    TAG_CHARS_MAX,
    TAGS_MAX,
    TENANT_CHARS_MAX,
    check_completion_request,
    check_tags,
)
from spillway.validation.violations import (
    INVALID_FIELD,
    INVALID_SCHEMA,
    NAME_CHARS_MAX,
    VIOLATIONS_MAX,
    InvalidValue,
    Violation,
)

__all__ = [
    "IMAGE_BYTES_MAX",
    "INVALID_FIELD",
    "INVALID_SCHEMA",
    "LABEL_CHARS_MAX",
    "NAME_CHARS_MAX",
    "SCHEMA_BYTES_MAX",
    "SCHEMA_DEPTH_MAX",
    "TAGS_MAX",
    "TAG_CHARS_MAX",
    "TENANT_CHARS_MAX",
    "TOOLS_MAX",
    "VIOLATIONS_MAX",
    "InvalidValue",
    "Violation",
    "check_chat_request",
    "check_completion_request",
    "check_feedback",
    "check_grades",
    "check_job_key",
    "check_job_submission",
    "check_plan",
    "check_tags",
]
