"""The whole suite while its configuration changes: every answer is of one version wholly, and nobody gets an error.

Each change is in three places: the name of the only target, its model, its price. Now the orchestrator is told first,
so that its plans are ahead of the executor, now the executor, and before every third change all are told of a bad file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import yaml

from services.runtime.config import parse
from spillway.cli.health import ServiceHealth, service_health
from spillway.client import AsyncClient
from spillway.routing import CacheMode, RoutingOptions
from tests.support.following import put
from tests.support.suite import Suite
from tests.support.waiting import until

SWAPS = int(os.environ.get("SPILLWAY_CONFIG_SWAPS", "10"))
CALLERS = 20
MODELS = ("small-1", "small-2")
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}
TOLD = ("orchestrator", "executor")


def changed(raw: dict[str, Any], number: int) -> str:
    """The configuration of that number."""
    price = {"input_usd_per_mtok": number + 1, "output_usd_per_mtok": number + 1}
    target = {"name": f"t{number}", "provider": "sandbox", "model": MODELS[number % 2], "price": price}
    return str(yaml.safe_dump({**raw, "tiers": [{"name": "only", "targets": [target]}], "policy": {}}))


class Callers:
    """Ask without a pause, each time something new."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.answers: list[tuple[str, str, str, int]] = []
        self.begun = 0
        self.ends = asyncio.Event()

    async def run(self, caller: int) -> None:
        bypass = RoutingOptions(cache_mode=CacheMode.BYPASS)
        async with AsyncClient(self._target) as client:
            while not self.ends.is_set():
                self.begun += 1
                done = await client.complete(f"question {self.begun} of caller {caller}", options=bypass)
                self.answers.append((done.routing.config_version, done.target, done.model, done.cost.cost_nanousd))

    async def go_on(self) -> None:
        wanted = len(self.answers) + CALLERS
        await until(lambda: len(self.answers) >= wanted)

    async def are_answered_by(self, version: str) -> None:
        await until(lambda: any(answer[0] == version for answer in self.answers))


class Changes:
    """Brings a configuration to the processes of a suite."""

    def __init__(self, suite: Suite, path: Path) -> None:
        self._suite = suite
        self._path = path

    async def seen(self, service: str) -> ServiceHealth:
        return await service_health(service, self._suite.addresses[service])

    async def tell(self, service: str, version: str) -> None:
        """Has the process look at the file; returns when it goes by that version, or refuses it ("")."""
        self._suite.processes[service].signal(signal.SIGHUP)

        async def knows() -> bool:
            seen = await self.seen(service)
            return seen.config_version == version and not seen.config_refused if version else bool(seen.config_refused)

        await until(knows)

    async def refused(self, text: str) -> None:
        before = [(await self.seen(service)).config_version for service in TOLD]
        put(self._path, text + "\nflagship: nobody\n")
        for service in TOLD:
            await self.tell(service, "")
        assert [(await self.seen(service)).config_version for service in TOLD] == before


async def test_every_answer_is_of_one_version_and_nobody_gets_an_error(tmp_path: Path) -> None:
    with Suite(tmp_path, config={"classifier": {"embedding": False}, "ledger": {"enabled": False}}) as suite:
        suite.script({model: [{"text": "A fine answer.", "usage": USAGE}] for model in MODELS})
        path = tmp_path / "spillway.yaml"
        raw = yaml.safe_load(path.read_text())
        texts = [changed(raw, number) for number in range(SWAPS + 1)]
        versions = [parse(text.encode(), path).version for text in texts]
        changes, callers = Changes(suite, path), Callers(suite.target)
        put(path, texts[0])
        for service in TOLD:
            await changes.tell(service, versions[0])
        asking = [asyncio.create_task(callers.run(number)) for number in range(CALLERS)]
        try:
            for number in range(1, SWAPS + 1):
                if number % 3 == 0:
                    await changes.refused(texts[number])
                    await callers.go_on()
                put(path, texts[number])
                for service in TOLD if number % 2 else reversed(TOLD):
                    await changes.tell(service, versions[number])
                    await callers.go_on()
                await callers.are_answered_by(versions[number])
        finally:
            callers.ends.set()
            await asyncio.gather(*asking)
        logs = [suite.processes[service].log() for service in TOLD]
    number_of = {version: number for number, version in enumerate(versions)}
    assert len(callers.answers) == callers.begun
    for version, target, model, cost_nanousd in callers.answers:
        number = number_of[version]
        assert (target, model, cost_nanousd) == (f"t{number}", MODELS[number % 2], 1_000 * (number + 1) * 110)
    assert {version for version, *_ in callers.answers} >= set(versions[1:])
    for log in logs:
        assert "loop_exception" not in {json.loads(line)["event"] for line in log.splitlines()}


async def test_while_a_setting_waits_for_a_restart_answers_name_what_is_in_force_and_executors_find_the_plan(
    tmp_path: Path,
) -> None:
    with Suite(tmp_path, config={"classifier": {"embedding": False}, "ledger": {"enabled": False}}) as suite:
        suite.script({model: [{"text": "A fine answer.", "usage": USAGE}] for model in MODELS})
        path = tmp_path / "spillway.yaml"
        raw = yaml.safe_load(path.read_text())
        changes = Changes(suite, path)
        in_force = parse(changed(raw, 1).encode(), path).version
        waiting = changed({**raw, "jobs": {**raw.get("jobs", {}), "queued_max": 77}}, 1)
        file_version = parse(waiting.encode(), path).version
        put(path, waiting)
        for service in TOLD:
            await changes.tell(service, file_version)
        async with AsyncClient(suite.target) as client:
            done = await client.complete("one")
        told = [json.loads(line) for line in suite.processes["orchestrator"].log().splitlines()]
    assert (done.routing.config_version, done.target, done.tier) == (in_force, "t1", "only")
    assert in_force != file_version
    (warning,) = (line for line in told if line["event"] == "config_needs_restart")
    assert (warning["paths"], warning["version"], warning["in_force"]) == (["jobs.queued_max"], file_version, in_force)
