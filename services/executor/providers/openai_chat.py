"""A provider that speaks OpenAI's chat completions: OpenAI, Azure, vLLM, Ollama, OpenRouter and many more."""

from __future__ import annotations

from urllib.parse import urlsplit

from services.executor.providers.http_provider import HttpProvider
from services.executor.providers.openai_wire import OpenAIWire

__all__ = ["OpenAIChat"]


class OpenAIChat(HttpProvider):
    """See HttpProvider. `base_url` goes up to and including /v1."""

    def __init__(
        self, base_url: str, *, api_key: str, connections_max: int, connect_timeout_s: float, answer_bytes_max: int
    ) -> None:
        host = urlsplit(base_url).hostname or ""
        is_openai = host == "api.openai.com" or host.endswith(".openai.azure.com")
        super().__init__(
            OpenAIWire("max_completion_tokens" if is_openai else "max_tokens"),
            base_url,
            api_key=api_key,
            connections_max=connections_max,
            connect_timeout_s=connect_timeout_s,
            answer_bytes_max=answer_bytes_max,
        )
