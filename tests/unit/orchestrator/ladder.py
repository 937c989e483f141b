"""Configurations and judgements for the orchestrator's tests."""

from __future__ import annotations

from typing import Any

from spillway.chat import ChatRequest, Message, Role
from spillway.routing import (
    Classification,
    CompletionRequest,
    Complexity,
    Layer,
    RoutingOptions,
    TaskType,
    TierSufficiency,
)
from spillway.settings import Settings

__all__ = ["judged", "request_of", "settings_of", "target", "tier"]


def target(name: str, *, window: int = 128_000, usd: float = 1.0) -> dict[str, Any]:
    return {
        "name": name,
        "provider": "lab",
        "model": f"model-of-{name}",
        "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd},
        "context_window_tokens": window,
    }


def tier(name: str, *targets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "targets": list(targets) or [target(f"{name}-1")], **more}


def settings_of(*tiers: dict[str, Any], policy: dict[str, Any] | None = None, **sections: Any) -> Settings:
    """A configuration of the given tiers, or of simple, medium and complex with one target each."""
    return Settings.model_validate(
        {
            "providers": {"lab": {"base_url": "http://127.0.0.1:1/v1"}},
            "tiers": list(tiers) or [tier("simple"), tier("medium"), tier("complex")],
            "policy": policy or {},
            "canary": {"share": 0},  # it would ask models that no test has asked for
            **sections,
        }
    )


def judged(
    complexity: Complexity = Complexity.SIMPLE,
    confidence: float = 0.95,
    task_type: TaskType = TaskType.FACTUAL_QA,
    *,
    suffices: dict[str, float] | None = None,
    cluster: str = "",
) -> Classification:
    """A judgement; `suffices` has P(an answer suffices) by tier."""
    sufficiency = tuple(TierSufficiency(*each) for each in (suffices or {}).items())
    rest = (1 - confidence) / 2
    simple, medium, hard = (confidence if each is complexity else rest for each in Complexity)
    probabilities = (simple, medium, hard)
    return Classification(
        task_type,
        complexity,
        probabilities,
        confidence,
        Layer.EMBEDDING,
        sufficiency=sufficiency,
        cluster=cluster,
    )


def request_of(text: str = "What is the capital of France?", **fields: Any) -> CompletionRequest:
    """A request of one user turn; fields of RoutingOptions and of CompletionRequest may be given together."""
    options = {name: fields.pop(name) for name in list(fields) if name in RoutingOptions.__dataclass_fields__}
    chat = fields.pop("chat", ChatRequest((Message.of(Role.USER, text),)))
    return CompletionRequest(chat=chat, options=RoutingOptions(**options), **fields)
