"""What a person may do about a failed request: whom the suite asked, how to give a key, when to come back.

Promises: pure; sentences for people, none when there is nothing to say. No wait is recommended where waiting does not
help.
"""

from __future__ import annotations

from typing import Final

from spillway.calling import API_KEY_VARIABLE
from spillway.failure import Failure

__all__ = ["KEY_HINT", "advice", "attempts_text"]

KEY_HINT: Final = f"{API_KEY_VARIABLE}=KEY in the environment, or Client(api_key=KEY); `spillway keys new` makes one"
# Only who runs the suite can mend these, so that a call of the same target ends the same whenever it is made.
_OPERATORS: Final = {
    "PROVIDER_AUTH": "a provider refuses its key: see providers.*.api_key_env in the configuration",
    "PROVIDER_NOT_FOUND": "a provider does not know the model: see tiers.*.targets.*.model in the configuration",
}


def attempts_text(failure: Failure) -> str:
    """Whom the executor asked and why none answered, e.g. "small-1:PROVIDER_AUTH,mid-1:BREAKER_OPEN"."""
    return dict(failure.metadata).get("attempts", "")


def advice(failure: Failure) -> list[str]:
    """Sentences, the most telling first."""
    if failure.reason == "UNAUTHENTICATED":
        return [f"Give an API key: {KEY_HINT}."]
    pairs = [one.partition(":") for one in attempts_text(failure).split(",") if one]
    whys = [why for _, _, why in pairs]
    said = [f"Tried: {', '.join(f'{target} {why}' for target, _, why in pairs)}."] if pairs else []
    if whys and all(why in _OPERATORS for why in whys):
        return [*said, f"Waiting does not help: {'; '.join(_OPERATORS[why] for why in dict.fromkeys(whys))}."]
    if failure.retry_after_s is not None:
        said.append(f"Try again in {failure.retry_after_s:.0f} s.")
    return said
