"""A provider that speaks Anthropic's Messages."""

from __future__ import annotations

from services.executor.providers.anthropic_wire import AnthropicWire
from services.executor.providers.http_provider import HttpProvider

__all__ = ["AnthropicMessages"]


class AnthropicMessages(HttpProvider):
    """See HttpProvider. `base_url` goes up to and including /v1."""

    def __init__(
        self, base_url: str, *, api_key: str, connections_max: int, connect_timeout_s: float, answer_bytes_max: int
    ) -> None:
        super().__init__(
            AnthropicWire(),
            base_url,
            api_key=api_key,
            connections_max=connections_max,
            connect_timeout_s=connect_timeout_s,
            answer_bytes_max=answer_bytes_max,
        )
