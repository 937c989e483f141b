"""What a mix of traffic costs: the arithmetic behind `spillway cost`.

Promises: pure. Money is exact decimals of US dollars; tokens and requests may be fractions, since they are averages. An
escalated request pays for every tier that it tried: the answers that were not accepted as well as the one that was.

The rules, for requests that start at tier i with prices c_1 ≤ … ≤ c_n per request and success rates p_1 … p_n (the
share of the answers that the gates accept; the last tier's answer is final):

    cost of starting at i       C_i = c_i + (1 - p_i) · C_(i+1),    C_n = c_n
    bill                        requests · Σ share_i · C_i
    break-even success rate     p* = (c_i + g_i) / C_(i+1): where trying tier i first costs what leaving it out does

with g_i, what the gates of tier i cost per answer, counted into C_i as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

__all__ = ["DAYS_PER_MONTH", "Bill", "TierBill", "TierTraffic", "Traffic", "bill"]

DAYS_PER_MONTH: Final = Decimal(365) / 12
SHARES_TOLERANCE: Final = Decimal("0.000001")
_MILLION: Final = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class TierTraffic:
    """A tier of the ladder. Prices are US dollars per million tokens, `gates_usd` per answer.

    `share` of all requests start here, in [0, 1]; `success` of its answers are accepted, in [0, 1].
    """

    name: str
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    share: Decimal
    success: Decimal = Decimal(1)
    gates_usd: Decimal = Decimal(0)

    def call_usd(self, input_tokens: Decimal, output_tokens: Decimal) -> Decimal:
        """What one answer costs, without gates."""
        return (input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok) / _MILLION


@dataclass(frozen=True, slots=True)
class Traffic:
    """What comes in: requests a day, tokens of each, and the tiers, cheapest first.

    `cache_hits` is the share of all requests that the cache answers. It and the tiers' shares make 1.
    """

    requests_per_day: Decimal
    input_tokens: Decimal
    output_tokens: Decimal
    tiers: tuple[TierTraffic, ...]
    cache_hits: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class TierBill:
    """Of one tier: how many requests a day it is asked, what that costs, and when it is worth asking.

    `asked_per_day` counts those that escalated to it too. `break_even` is the least success rate at which starting here
    costs no more than starting at the next tier; None for the last one.
    """

    name: str
    asked_per_day: Decimal
    usd_per_day: Decimal
    success: Decimal
    break_even: Decimal | None


@dataclass(frozen=True, slots=True)
class Bill:
    """The whole. `blended_usd_per_mtok` is per million tokens of requests and answers that callers see, cached or not.

    `flagship_usd_per_day`: the last tier for every request, without a cache.
    """

    usd_per_day: Decimal
    usd_per_month: Decimal
    flagship_usd_per_day: Decimal
    flagship_usd_per_month: Decimal
    saved: Decimal
    blended_usd_per_mtok: Decimal
    escalations_per_day: Decimal
    tiers: tuple[TierBill, ...]


def bill(traffic: Traffic) -> Bill:
    """Raises ValueError, with a sentence that says what to change, for traffic that makes no sense."""
    _check(traffic)
    calls = [tier.call_usd(traffic.input_tokens, traffic.output_tokens) for tier in traffic.tiers]
    starting = _cost_of_starting(traffic.tiers, calls)
    asked = _asked_per_day(traffic)
    tiers = tuple(
        TierBill(
            name=tier.name,
            asked_per_day=asked[i],
            usd_per_day=asked[i] * (calls[i] + tier.gates_usd),
            success=tier.success,
            break_even=_break_even(calls[i] + tier.gates_usd, starting[i + 1]) if i + 1 < len(calls) else None,
        )
        for i, tier in enumerate(traffic.tiers)
    )
    usd = sum((tier.usd_per_day for tier in tiers), Decimal(0))
    flagship = traffic.requests_per_day * calls[-1]
    tokens = traffic.requests_per_day * (traffic.input_tokens + traffic.output_tokens)
    started = [traffic.requests_per_day * tier.share for tier in traffic.tiers]
    return Bill(
        usd_per_day=usd,
        usd_per_month=usd * DAYS_PER_MONTH,
        flagship_usd_per_day=flagship,
        flagship_usd_per_month=flagship * DAYS_PER_MONTH,
        saved=1 - usd / flagship if flagship else Decimal(0),
        blended_usd_per_mtok=usd / tokens * _MILLION,
        escalations_per_day=sum(asked, Decimal(0)) - sum(started, Decimal(0)),
        tiers=tiers,
    )


def _cost_of_starting(tiers: Sequence[TierTraffic], calls: Sequence[Decimal]) -> list[Decimal]:
    """What a request costs in all that starts at each tier."""
    costs = [calls[-1] + tiers[-1].gates_usd]
    for tier, call in zip(reversed(tiers[:-1]), reversed(calls[:-1]), strict=True):
        costs.append(call + tier.gates_usd + (1 - tier.success) * costs[-1])
    return costs[::-1]


def _asked_per_day(traffic: Traffic) -> list[Decimal]:
    """How many requests each tier is asked: those that start there, and those that the tier below did not satisfy."""
    asked: list[Decimal] = []
    escalated = Decimal(0)
    for tier in traffic.tiers:
        asked.append(traffic.requests_per_day * tier.share + escalated)
        escalated = asked[-1] * (1 - tier.success)
    return asked


def _break_even(here: Decimal, above: Decimal) -> Decimal | None:
    return here / above if above else None


def _check(traffic: Traffic) -> None:
    if not traffic.tiers:
        raise ValueError("at least one tier is needed")
    if traffic.requests_per_day <= 0 or traffic.input_tokens < 0 or traffic.output_tokens < 0:
        raise ValueError("requests must be above 0, tokens at least 0")
    if traffic.input_tokens + traffic.output_tokens == 0:
        raise ValueError("a request needs tokens")
    ratios = [("the cache's hit rate", traffic.cache_hits)]
    for tier in traffic.tiers:
        ratios += [(f"the share of {tier.name}", tier.share), (f"the success rate of {tier.name}", tier.success)]
        if min(tier.input_usd_per_mtok, tier.output_usd_per_mtok, tier.gates_usd) < 0:
            raise ValueError(f"prices of {tier.name} must be at least 0")
    for name, ratio in ratios:
        if not 0 <= ratio <= 1:
            raise ValueError(f"{name} must be between 0 and 1, not {ratio}")
    total = traffic.cache_hits + sum((tier.share for tier in traffic.tiers), Decimal(0))
    if abs(total - 1) > SHARES_TOLERANCE:
        raise ValueError(
            f"the cache's hit rate and the tiers' shares must make 1, not {total}: shares are of all requests, those "
            "that the cache answers included"
        )
