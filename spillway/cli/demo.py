"""A first look: a handful of prompts through the running suite, each with what became of it.

The prompts are of the sandbox's examples, so that its answers fit; on real providers they do as well.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from spillway.cli.advice import advice
from spillway.cli.show import gate_marks, saved_text
from spillway.cli.terminal import usd
from spillway.client import AsyncClient
from spillway.errors import RequestError
from spillway.routing import Attempt, CacheKind, Completion, RoutingOptions, Verdict

__all__ = ["Demo", "DemoPrompt", "demo_view", "own_command", "run_demo", "what_next"]

PROMPT_TIMEOUT_S = 60.0
HARD_GATE = "hard_failure"


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """A prompt, and why it is among them; the remark is empty when the prompt speaks for itself."""

    text: str
    remark: str = ""
    options: RoutingOptions = field(default_factory=RoutingOptions)


# More than the configuration asks for: the cheaper models' "fairly sure" is then not enough.
SURE = RoutingOptions(confidence_min=0.9)
# The repeats stand well after what they repeat: an answer is stored after it has left.
PROMPTS = (
    DemoPrompt("What is the capital of France?"),
    DemoPrompt("Hi there! How are you today?"),
    DemoPrompt('Translate to Spanish: "Where is the train station?"'),
    DemoPrompt("What is the capital of France?", "an exact repeat"),
    DemoPrompt("what is the capital of France?", "the same words"),
    DemoPrompt("A shirt costs 40 dollars and is reduced by 25 %. What does it cost now?"),
    DemoPrompt("How many different arrangements are there of the letters of LEVEL?", "the small model doubts"),
    DemoPrompt(
        "How many positive integers n up to 1000 are divisible by neither 2, 3 nor 5?", "hard, to be 90 % sure", SURE
    ),
)


@dataclass(frozen=True, slots=True)
class Demo:
    """What became of each prompt, in order: an answer or an error."""

    outcomes: tuple[tuple[DemoPrompt, Completion | RequestError], ...]

    @property
    def completions(self) -> tuple[Completion, ...]:
        """The answers."""
        return tuple(outcome for _, outcome in self.outcomes if isinstance(outcome, Completion))

    @property
    def most_telling(self) -> Completion | None:
        """The answer whose trace has most to show: the one with the most attempts."""
        return max(self.completions, key=lambda completion: len(completion.attempts), default=None)


async def run_demo(client: AsyncClient) -> Demo:
    """Ask the prompts one after the other."""
    outcomes: list[tuple[DemoPrompt, Completion | RequestError]] = []
    for prompt in PROMPTS:
        try:
            outcomes.append(
                (prompt, await client.complete(prompt.text, options=prompt.options, timeout_s=PROMPT_TIMEOUT_S))
            )
        except RequestError as error:
            outcomes.append((prompt, error))
    return Demo(tuple(outcomes))


def demo_view(demo: Demo) -> RenderableType:
    """A row for each prompt, and the totals."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("prompt", ratio=1, overflow="fold")
    for name in ("answered by", "cache", "gates"):
        table.add_column(name, overflow="fold")
    table.add_column("esc.", justify="right", no_wrap=True)
    for name in ("cost, of flagship's", "saved"):
        table.add_column(name, justify="right")
    for prompt, outcome in demo.outcomes:
        text = Text(prompt.text)
        if prompt.remark:
            text.append(f"  ({prompt.remark})", style="cyan")
        if isinstance(outcome, Completion):
            table.add_row(text, *_cells(outcome))
        else:
            table.add_row(text, Text(str(outcome), style="red"))
    return Group(table, "", *_whys(demo), _totals(demo))


def own_command(python: Path, directory: Path, search_path: str) -> str:
    """How a shell in `directory` that looks for commands in `search_path` calls the `spillway` of that interpreter."""
    script = python.with_name("spillway")
    if not script.is_file():
        return f"{shlex.quote(str(python))} -m spillway.cli"
    found = shutil.which("spillway", path=search_path)
    if found is not None and Path(found).samefile(script):
        return "spillway"
    return shlex.quote(str(script.relative_to(directory) if script.is_relative_to(directory) else script))


def what_next(spillway: str, *, with_sandbox: bool) -> Text:
    """What to try after the demo. `spillway`: what `own_command` gave."""
    text = Text("Try in another terminal, in this directory:\n")
    for command in (
        f"{spillway} ask 'How many days are there in a leap year?'",
        f"{spillway} ask --stream --cache bypass 'Write a haiku about autumn rain.'",
        f"{spillway} explain 'Prove that the square root of 2 is irrational.'",
        f"{spillway} cache stats",
        "kill -9 <the pid of a service above>      and ask again",
    ):
        text.append(f"  {command}\n", style="bold")
    if with_sandbox:
        text.append("With OPENAI_API_KEY, or OPENAI_BASE_URL of an Ollama or vLLM, real models answer.", style="dim")
    text.rstrip()
    return text


def _whys(demo: Demo) -> list[Text]:
    """Of each reason for which prompts failed, what became of the first: later ones met only what it left behind."""
    first: dict[str, str] = {}
    for _, outcome in demo.outcomes:
        if isinstance(outcome, RequestError):
            first.setdefault(outcome.failure.reason, " ".join(advice(outcome.failure)))
    return [Text(why, style="red") for why in first.values() if why]


def _cells(completion: Completion) -> tuple[RenderableType, ...]:
    hit = completion.cache.kind in {CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT}
    who = Text(completion.tier, style="bold")
    who.append(f"\n{completion.model}", style="dim")
    gates = Text("\n").join(_gates(attempt) for attempt in completion.attempts)
    cost = completion.cost
    return (
        who,
        Text(completion.cache.kind.value.replace("_", " "), style="green" if hit else "dim"),
        gates,
        Text(str(completion.escalations), style="yellow" if completion.escalations else "dim"),
        f"{usd(cost.cost_nanousd)}\nof {usd(cost.flagship_cost_nanousd)}",
        saved_text(cost.cost_nanousd, cost.flagship_cost_nanousd),
    )


def _gates(attempt: Attempt) -> Text:
    """The marks, without the gate that every complete answer passes."""
    telling = [found for found in attempt.verdicts if found.gate != HARD_GATE or found.verdict is not Verdict.PASS]
    return gate_marks(tuple(telling), reasons=False) if telling else Text("–", style="dim")


def _totals(demo: Demo) -> Text:
    done = demo.completions
    cost = sum(completion.cost.cost_nanousd for completion in done)
    flagship = sum(completion.cost.flagship_cost_nanousd for completion in done)
    hits = sum(completion.cache.kind in {CacheKind.EXACT_HIT, CacheKind.SEMANTIC_HIT} for completion in done)
    escalated = sum(completion.escalations > 0 for completion in done)
    text = Text(f"{len(done)} answered", style="bold")
    text.append(f", {hits} from the cache, {escalated} escalated · ", style="bold")
    text.append(f"{usd(cost)} instead of {usd(flagship)} with the flagship alone · saved ")
    text.append_text(saved_text(cost, flagship))
    errors = len(demo.outcomes) - len(done)
    if errors:
        text.append(f" · {errors} failed", style="red")
    return text
