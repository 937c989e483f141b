"""Spillway: each LLM request goes to the cheapest model that can answer it, with the proof that the answer is good.

    from spillway import Client

    with Client() as client:
        completion = client.complete("What is 12 * 12?")
        print(completion.text, completion.tier, completion.cost)

Importing this package loads nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spillway.chat import (
        ChatRequest,
        FinishReason,
        FormatKind,
        GenerationParams,
        ImagePart,
        Message,
        ResponseFormat,
        Role,
        TextPart,
        ToolCall,
        ToolChoice,
        ToolChoiceMode,
        ToolDefinition,
        Usage,
    )
    from spillway.client import AsyncClient, Client
    from spillway.errors import (
        CancelledCallError,
        DeadlineError,
        InterruptedStreamError,
        InvalidRequestError,
        RefusedError,
        RequestError,
        ServerError,
        UnavailableError,
    )
    from spillway.failure import Failure
    from spillway.routing import (
        AnswerDelta,
        Attempt,
        CacheMode,
        Completion,
        CompletionRequest,
        Explanation,
        FeedbackKind,
        Job,
        JobState,
        RoutingOptions,
        Strategy,
    )

__all__ = [
    "AnswerDelta",
    "AsyncClient",
    "Attempt",
    "CacheMode",
    "CancelledCallError",
    "ChatRequest",
    "Client",
    "Completion",
    "CompletionRequest",
    "DeadlineError",
    "Explanation",
    "Failure",
    "FeedbackKind",
    "FinishReason",
    "FormatKind",
    "GenerationParams",
    "ImagePart",
    "InterruptedStreamError",
    "InvalidRequestError",
    "Job",
    "JobState",
    "Message",
    "RefusedError",
    "RequestError",
    "ResponseFormat",
    "Role",
    "RoutingOptions",
    "ServerError",
    "Strategy",
    "TextPart",
    "ToolCall",
    "ToolChoice",
    "ToolChoiceMode",
    "ToolDefinition",
    "UnavailableError",
    "Usage",
]

_MODULES = ("client", "errors", "failure", "chat", "routing")


def __getattr__(name: str) -> object:
    if name in __all__:
        for module_name in _MODULES:
            module = import_module(f"spillway.{module_name}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'spillway' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
