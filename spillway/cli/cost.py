"""`spillway cost`: what a mix of traffic would cost a month, against the flagship for everything."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.runtime.config import ConfigError, load
from spillway.cli.cost_model import Bill, TierTraffic, Traffic, bill
from spillway.cli.terminal import open_console

__all__ = ["register"]

# How `--tier` is written.
FORM = "NAME,share=S[,price=USD or in=USD,out=USD][,success=P][,gates=USD]"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(cost)


def cost(
    tier: Annotated[
        list[str],
        typer.Option(
            help=f"{FORM}; repeat it, cheapest first. Prices are per million tokens, by default those of the "
            "configuration's tier of that name; gates are per answer."
        ),
    ],
    requests_per_day: Annotated[float, typer.Option("--requests", min=0, help="A day.")] = 100_000,
    input_tokens: Annotated[float, typer.Option(min=0, help="Of a request, on average.")] = 600,
    output_tokens: Annotated[float, typer.Option(min=0, help="Of an answer, on average.")] = 200,
    cache: Annotated[float, typer.Option(min=0, max=1, help="Share of all requests that the cache answers.")] = 0,
    config: Annotated[Path | None, typer.Option(help="spillway.yaml; default: as every service finds it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON.")] = False,
) -> None:
    """What a mix of traffic costs a day and a month, the blended price, and when a cheap tier pays.

    Both payments of an escalation count; there are at most two for a request. Example:
    spillway cost --requests 1e6 --cache .25 --tier small,share=.5,price=.2 --tier mid,share=.17,price=1.5
    --tier big,share=.08,price=10
    """
    try:
        traffic = Traffic(
            _decimal(str(requests_per_day), "--requests"),
            _decimal(str(input_tokens), "--input-tokens"),
            _decimal(str(output_tokens), "--output-tokens"),
            tuple(_tier(each, config) for each in tier),
            _decimal(str(cache), "--cache"),
        )
        result = bill(traffic)
    except ArithmeticError as error:
        typer.echo("spillway cost: the figures are too large or too small to be computed with", err=True)
        raise typer.Exit(2) from error
    except (ValueError, ConfigError) as error:
        typer.echo(f"spillway cost: {error}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json.dumps(_plain(result), indent=2))
    else:
        open_console().print(_view(result))


def _tier(text: str, config: Path | None) -> TierTraffic:
    """Raises ValueError, ConfigError."""
    name, *settings = [part.strip() for part in text.split(",")]
    given: dict[str, Decimal] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in {"share", "price", "in", "out", "success", "gates"} or key in given:
            raise ValueError(f"--tier {text}: {setting!r} is not understood; the form is {FORM}")
        given[key] = _decimal(value, f"--tier {text}: {key}")
    if "share" not in given or not name:
        raise ValueError(f"--tier {text}: a name and a share are needed; the form is {FORM}")
    if "price" in given and ("in" in given or "out" in given):
        raise ValueError(f"--tier {text}: price, or in and out, not both")
    if ("in" in given) is not ("out" in given):
        raise ValueError(f"--tier {text}: in and out go together")
    if "price" in given:
        price_in = price_out = given["price"]
    elif "in" in given:
        price_in, price_out = given["in"], given["out"]
    else:
        price_in, price_out = _configured_prices(name, config)
    return TierTraffic(
        name, price_in, price_out, given["share"], given.get("success", Decimal(1)), given.get("gates", Decimal(0))
    )


def _configured_prices(name: str, config: Path | None) -> tuple[Decimal, Decimal]:
    loaded = load(config)
    for tier in loaded.settings.tiers:
        if tier.name == name:
            price = tier.targets[0].price
            return Decimal(str(price.input_usd_per_mtok)), Decimal(str(price.output_usd_per_mtok))
    raise ValueError(f"no price is given for {name}, and {loaded.path} has no tier of that name")


def _decimal(text: str, where: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise ValueError(f"{where} must be a number, not {text!r}")
    return value


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return float(value) if isinstance(value, Decimal) else value


def _view(result: Bill) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold", title="a day", title_justify="left")
    table.add_column("tier")
    for name in ("requests asked", "cost", "success", "pays above"):
        table.add_column(name, justify="right")
    for tier in result.tiers:
        even = "–" if tier.break_even is None else f"{tier.break_even:.1%}"
        worth = tier.break_even is None or tier.success > tier.break_even
        table.add_row(
            Text(tier.name),
            f"{tier.asked_per_day:,.0f}",
            f"${tier.usd_per_day:,.2f}",
            f"{tier.success:.1%}",
            Text(even, style="" if worth else "red"),
        )
    lines = (
        f"a day    ${result.usd_per_day:,.2f}  against ${result.flagship_usd_per_day:,.2f} with the last tier alone: "
        f"{result.saved:.1%} saved",
        f"a month  ${result.usd_per_month:,.2f}  against ${result.flagship_usd_per_month:,.2f}",
        f"blended  ${result.blended_usd_per_mtok:,.3f} per million tokens; "
        f"{result.escalations_per_day:,.0f} escalations a day, both calls counted",
    )
    return Group(table, "", *(Text(line) for line in lines))
