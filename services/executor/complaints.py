"""What an operator should mend: a provider that refuses the key, or that does not know the model.

Promises: one warning per provider and `_PAUSE_S`, however many calls fail; it names the provider and what its status
was, never the key or a prompt.
"""

from __future__ import annotations

from typing import Final

from services.executor.outcome import FailureKind, ProviderFailure
from services.runtime.logs import get_logger

__all__ = ["Complaints"]

_PAUSE_S: Final = 60.0

_log = get_logger(__name__)


class Complaints:
    """One per process. Remembers as many providers as are configured."""

    def __init__(self) -> None:
        self._said_at_s: dict[str, float] = {}

    def note(self, provider: str, target: str, failure: ProviderFailure, now_s: float) -> None:
        """Warns of the failure if it is one that only an operator can mend, and was not warned of just now."""
        if failure.kind is not FailureKind.AUTH:
            return
        said_at_s = self._said_at_s.get(provider)
        if said_at_s is not None and now_s - said_at_s < _PAUSE_S:
            return
        self._said_at_s[provider] = now_s
        # The detail is "HTTP 401" and words of fixed sets: see providers.failures.
        _log.warning(
            "provider_refuses_credentials",
            provider=provider,
            target=target,
            reason=failure.error_reason,
            status=failure.detail,
        )
