"""Logs: one JSON object per line on standard error.

Promises: every line has ts, level, event, service, and the trace id when there is one. An exception is logged as its
type and where it was raised, never with its text, which could quote a prompt. Callers log events with fields; a prompt,
an answer or a key is never a field.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, cast

import structlog
from opentelemetry import trace

__all__ = ["configure", "describe_exception", "get_logger", "report_loop_exceptions"]

_FRAMES_MAX: Final = 12
_CAUSES_MAX: Final = 4
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Libraries speak up from this level on.
_LIBRARY_LEVEL: Final = logging.WARNING

EventDict = MutableMapping[str, Any]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for the module `name`. Usable before `configure`, whose settings it then follows."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(logger_name=name))


def describe_exception(error: BaseException) -> dict[str, object]:
    """The type of `error` and of its causes, and the last frames of its traceback; none of their texts."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES_MAX:]
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < _CAUSES_MAX:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    described: dict[str, object] = {
        "exception": type(error).__name__,
        "where": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    return described | ({"causes": causes} if causes else {})


def _add_trace_id(_logger: object, _method: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event


def _exception_without_text(_logger: object, _method: str, event: EventDict) -> EventDict:
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else info
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event.update(describe_exception(error))
    return event


def configure(*, service: str, level: str = "info") -> None:
    """Sets up logging of this process: once, before anything logs. `level` is debug, info, warning or error."""

    def add_service(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        if "logger_name" in event:
            event["logger"] = event.pop("logger_name")
        return event

    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        add_service,
        _add_trace_id,
        _exception_without_text,
    ]
    renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_LEVELS[level], _LIBRARY_LEVEL))


def report_loop_exceptions(loop: asyncio.AbstractEventLoop) -> None:
    """Has the loop log what no task awaited, without its text."""
    logger = get_logger(__name__)

    def report(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        logger.error("loop_exception", **(describe_exception(error) if isinstance(error, BaseException) else {}))

    loop.set_exception_handler(report)
