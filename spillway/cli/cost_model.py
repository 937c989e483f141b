"""What a mix of traffic costs: the arithmetic behind `spillway cost`.

Promises: pure. Money is exact decimals of US dollars; tokens and requests may be fractions, since they are averages. An
escalated request pays for every tier that it tried: the answers that were not accepted as well as the one that was. A
request is escalated at most twice, as the product does it; then the answer it has is final.

The rules, for requests that start at tier i with prices c_1 ≤ … ≤ c_n per request and success rates p_1 … p_n (the
share of the answers that the gates accept; the last tier's answer is final), with k escalations left:

    cost at i                   C_i,k = c_i + g_i + (1 - p_i) · C_(i+1),(k-1),   C_n,k = c_n + g_n,   C_i,0 = c_i + g_i
    bill                        requests · Σ share_i · C_i,2
    break-even success rate     p* = 1 - (C_(i+1),2 - c_i - g_i) / C_(i+1),1, at least 0: where trying tier i first
                                costs what leaving it out does; with up to three tiers (c_i + g_i) / C_(i+1),2

with g_i, what the gates of tier i cost per answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Final

__all__ = ["DAYS_PER_MONTH", "ESCALATIONS_MAX", "Bill", "TierBill", "TierTraffic", "Traffic", "bill"]

DAYS_PER_MONTH: Final = Decimal(365) / 12
ESCALATIONS_MAX: Final = 2
# Beyond them it is a slip of the pen, and sums could leave what decimals can hold.
REQUESTS_MAX: Final = Decimal(10) ** 15
TOKENS_MAX: Final = Decimal(10) ** 9
USD_MAX: Final = Decimal(10) ** 9
TIERS_MAX: Final = 100
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
    _check_order(traffic.tiers, calls)
    costs = [call + tier.gates_usd for tier, call in zip(traffic.tiers, calls, strict=True)]
    ways = [_cost_of_starting(traffic.tiers, costs, left) for left in range(ESCALATIONS_MAX + 1)]
    asked = _asked_per_day(traffic)
    tiers = tuple(
        TierBill(
            name=tier.name,
            asked_per_day=asked[i],
            usd_per_day=asked[i] * costs[i],
            success=tier.success,
            break_even=_break_even(costs[i], ways[1][i + 1], ways[2][i + 1]) if i + 1 < len(calls) else None,
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


def _cost_of_starting(tiers: Sequence[TierTraffic], costs: Sequence[Decimal], escalations: int) -> list[Decimal]:
    """What a request costs in all that starts at each tier and may be escalated so often."""
    if not escalations:
        return list(costs)
    above = [*_cost_of_starting(tiers, costs, escalations - 1)[1:], Decimal(0)]
    return [cost + (1 - tier.success) * next_ for tier, cost, next_ in zip(tiers, costs, above, strict=True)]


def _asked_per_day(traffic: Traffic) -> list[Decimal]:
    """How many requests each tier is asked: those that start there, and those that the tier below did not satisfy."""
    asked: list[Decimal] = []
    # Of those that come from below, how many have been escalated once, twice, ...
    escalated = [Decimal(0)] * ESCALATIONS_MAX
    for tier in traffic.tiers:
        started = traffic.requests_per_day * tier.share
        asked.append(started + sum(escalated, Decimal(0)))
        escalated = [each * (1 - tier.success) for each in (started, *escalated[:-1])]
    return asked


def _break_even(here: Decimal, above_once: Decimal, above: Decimal) -> Decimal | None:
    """`above`, `above_once`: what starting at the next tier costs, with all escalations and with one less."""
    return max(Decimal(0), 1 - (above - here) / above_once) if above_once else None


def _check_order(tiers: Sequence[TierTraffic], calls: Sequence[Decimal]) -> None:
    for i, (call, above) in enumerate(pairwise(calls)):
        if call > above:
            raise ValueError(
                f"tiers come cheapest first, but a call of {tiers[i].name} costs more (${call:.3g}) than one of "
                f"{tiers[i + 1].name} (${above:.3g}): change their order, or their prices"
            )


def _check(traffic: Traffic) -> None:
    if not traffic.tiers:
        raise ValueError("at least one tier is needed")
    if traffic.requests_per_day <= 0 or traffic.input_tokens < 0 or traffic.output_tokens < 0:
        raise ValueError("requests must be above 0, tokens at least 0")
    if traffic.input_tokens + traffic.output_tokens == 0:
        raise ValueError("a request needs tokens")
    if len(traffic.tiers) > TIERS_MAX:
        raise ValueError(f"at most {TIERS_MAX} tiers are understood")
    if traffic.requests_per_day > REQUESTS_MAX or max(traffic.input_tokens, traffic.output_tokens) > TOKENS_MAX:
        raise ValueError(
            f"at most {REQUESTS_MAX:.0e} requests a day and {TOKENS_MAX:.0e} tokens a request are understood"
        )
    ratios = [("the cache's hit rate", traffic.cache_hits)]
    for tier in traffic.tiers:
        ratios += [(f"the share of {tier.name}", tier.share), (f"the success rate of {tier.name}", tier.success)]
        if min(tier.input_usd_per_mtok, tier.output_usd_per_mtok, tier.gates_usd) < 0:
            raise ValueError(f"prices of {tier.name} must be at least 0")
        if max(tier.input_usd_per_mtok, tier.output_usd_per_mtok, tier.gates_usd) > USD_MAX:
            raise ValueError(f"prices of {tier.name} must be at most ${USD_MAX:,}")
    for name, ratio in ratios:
        if not 0 <= ratio <= 1:
            raise ValueError(f"{name} must be between 0 and 1, not {ratio}")
    total = traffic.cache_hits + sum((tier.share for tier in traffic.tiers), Decimal(0))
    if abs(total - 1) > SHARES_TOLERANCE:
        raise ValueError(
            f"the cache's hit rate and the tiers' shares must make 1, not {total}: shares are of all requests, those "
            "that the cache answers included"
        )
