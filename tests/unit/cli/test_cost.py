"""The what-if calculator: the published cases, escalations paid for twice, and when a cheap tier pays."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from spillway.cli.app import app
from spillway.cli.cost_model import TierTraffic, Traffic, bill

D = Decimal


def tier(name: str, price: str, share: str, success: str = "1", gates: str = "0") -> TierTraffic:
    return TierTraffic(name, D(price), D(price), D(share), D(success), D(gates))


def traffic(*tiers: TierTraffic, requests: int = 1_000_000, tokens: int = 800, cache: str = "0") -> Traffic:
    return Traffic(D(requests), D(tokens), D(0), tiers, D(cache))


def test_a_million_requests_a_day_cost_924_dollars_instead_of_8000() -> None:
    mix = traffic(tier("small", "0.20", "0.50"), tier("mid", "1.50", "0.17"), tier("big", "10", "0.08"), cache="0.25")
    result = bill(mix)
    assert result.usd_per_day == 924
    assert result.flagship_usd_per_day == 8_000
    assert round(result.saved, 2) == D("0.88")


@pytest.mark.parametrize(
    ("cheap", "dear", "blended", "saved"),
    [("1.00", "5.00", "2.00", "0.60"), ("0.15", "1.25", "0.425", "0.66")],
)
def test_three_quarters_on_the_cheap_tier_blend_to_the_published_price(
    cheap: str, dear: str, blended: str, saved: str
) -> None:
    result = bill(traffic(tier("cheap", cheap, "0.75"), tier("dear", dear, "0.25")))
    assert result.blended_usd_per_mtok == D(blended)
    assert result.saved == D(saved)


def test_an_escalation_is_paid_for_twice() -> None:
    result = bill(traffic(tier("cheap", "1", "1", success="0.9"), tier("dear", "10", "0"), requests=100, tokens=10**6))
    assert result.escalations_per_day == 10
    assert [each.usd_per_day for each in result.tiers] == [100, 100]


def test_an_answer_that_fails_twice_is_paid_for_three_times() -> None:
    tiers = (tier("a", "1", "1", success="0.5"), tier("b", "2", "0", success="0.5"), tier("c", "8", "0"))
    result = bill(traffic(*tiers, requests=4, tokens=10**6))
    assert [each.asked_per_day for each in result.tiers] == [4, 2, 1]
    assert result.usd_per_day == 4 * 1 + 2 * 2 + 1 * 8


def test_nobody_is_escalated_more_than_twice() -> None:
    tiers = tuple(
        tier(name, price, share, success="0") for name, price, share in zip("abcd", "1248", "1000", strict=True)
    )
    result = bill(traffic(*tiers, requests=1, tokens=10**6))
    assert [each.asked_per_day for each in result.tiers] == [1, 1, 1, 0]
    assert result.usd_per_day == 1 + 2 + 4
    assert result.escalations_per_day == 2


@given(st.lists(st.decimals(0, 1, places=2), min_size=5, max_size=5), st.integers(0, 3))
def test_a_tier_below_any_ladder_pays_from_its_break_even_on(success: list[Decimal], at: int) -> None:
    ladder = [tier(str(i), str(2**i), "0", success=str(rate)) for i, rate in enumerate(success)]

    def cost(start: int, rate: Decimal) -> Decimal:
        tiers = [replace(each, share=D(int(i == start))) for i, each in enumerate(ladder)]
        tiers[at] = replace(tiers[at], success=rate)
        return bill(traffic(*tiers)).usd_per_day

    even = bill(traffic(*(replace(each, share=D(int(i == 0))) for i, each in enumerate(ladder)))).tiers[at].break_even
    assert even is not None
    left_out = cost(at + 1, D(0))
    if 0 < even <= 1:
        assert abs(cost(at, even) - left_out) < D("1e-9") * left_out
    elif even > 1:
        assert cost(at, D(1)) > left_out
    else:
        assert cost(at, D(0)) <= left_out


@given(
    cheap=st.decimals("0.01", 5, places=2),
    times=st.decimals("1.1", 50, places=1),
    gates=st.decimals(0, "0.01", places=4),
)
def test_at_its_break_even_success_rate_a_tier_costs_what_leaving_it_out_costs(
    cheap: Decimal, times: Decimal, gates: Decimal
) -> None:
    dear = TierTraffic("dear", cheap * times, cheap * times, D(0))
    first = TierTraffic("cheap", cheap, cheap, D(1), D(1), gates)
    even = bill(traffic(first, dear, tokens=10_000)).tiers[0].break_even
    assert even is not None
    alone = bill(traffic(replace(dear, share=D(1)), tokens=10_000)).usd_per_day
    if even <= 1:
        at = bill(traffic(replace(first, success=even), dear, tokens=10_000)).usd_per_day
        assert abs(at - alone) < D("1e-9") * alone
        above = min(D(1), even + (1 - even) / 2)
        better = bill(traffic(replace(first, success=above), dear, tokens=10_000)).usd_per_day
        assert better < alone or above == even
    else:
        assert bill(traffic(first, dear, tokens=10_000)).usd_per_day > alone


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (traffic(), "at least one tier"),
        (traffic(tier("a", "1", "0.9")), "must make 1"),
        (traffic(tier("a", "1", "1", success="1.5")), "success rate of a"),
        (traffic(tier("a", "-1", "1")), "prices of a"),
        (traffic(tier("a", "1", "1"), requests=0), "above 0"),
        (traffic(tier("a", "1", "1"), tokens=0), "needs tokens"),
        (traffic(tier("dear", "2", "0.5"), tier("cheap", "1", "0.5")), "cheapest first, but a call of dear"),
        (traffic(tier("a", "1", "1"), requests=10**16), "requests a day"),
        (traffic(tier("a", "1e999999", "1")), "prices of a must be at most"),
    ],
)
def test_traffic_that_makes_no_sense_is_refused_with_what_to_change(wrong: Traffic, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        bill(wrong)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["cost", *arguments])
    return result.exit_code, result.stdout, result.stderr


PUBLISHED = [
    *("--requests", "1e6", "--input-tokens", "800", "--output-tokens", "0", "--cache", "0.25"),
    *("--tier", "small,share=.5,price=.2", "--tier", "mid,share=.17,price=1.5", "--tier", "big,share=.08,price=10"),
]


def test_the_command_prints_the_published_case() -> None:
    code, out, _ = run(*PUBLISHED)
    assert code == 0
    assert "$924.00  against $8,000.00" in out
    code, out, _ = run(*PUBLISHED, "--json")
    assert json.loads(out)["usd_per_day"] == 924


def test_prices_come_from_the_configuration_where_none_is_given(tmp_path: Path) -> None:
    config = tmp_path / "spillway.yaml"
    config.write_text(
        "version: 1\nproviders: {lab: {base_url: 'http://127.0.0.1:1/v1'}}\n"
        "tiers:\n  - {name: only, targets: [{name: t, provider: lab, model: m, "
        "price: {input_usd_per_mtok: 2, output_usd_per_mtok: 4}}]}\n"
    )
    arguments = ("--config", str(config), "--requests", "10", "--input-tokens", "1e6", "--output-tokens", "1e6")
    code, out, _ = run(*arguments, "--tier", "only,share=1", "--json")
    assert (code, json.loads(out)["usd_per_day"]) == (0, 60)
    code, _, error = run(*arguments, "--tier", "other,share=1")
    assert code == 2
    assert "no tier of that name" in error


@pytest.mark.parametrize(
    "wrong", ["a,share=x", "a", "a,share=1,speed=9", "a,share=1,price=1,in=1,out=1", "a,share=1,in=1"]
)
def test_a_tier_that_is_not_understood_is_wrong_usage(wrong: str) -> None:
    code, _, error = run("--tier", wrong)
    assert code == 2
    assert wrong.partition(",")[0] in error


@pytest.mark.parametrize(
    "wrong",
    ["a,share=1,price=1e999999", "a,share=1,price=1e-999999999", "a,share=1,price=1,gates=9e99", "a,price=1,share=1e9"],
)
def test_numbers_beyond_all_measure_are_a_clear_error(wrong: str) -> None:
    code, out, error = run("--tier", wrong)
    if code == 0:
        assert "a month" in out
    else:
        assert (code, error.startswith("spillway cost: ")) == (2, True)
        assert "Traceback" not in error
