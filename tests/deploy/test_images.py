"""The suite started from its images: who it runs as, what it writes, how it ends, and that it routes.

SPILLWAY_IMAGES=1 asks for it (`make images-test`, and the gate on machines that can): it builds all images, without a
registry, and runs them by podman. SPILLWAY_IMAGES=built says that they are built.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from spillway.cli.suite import THREADS
from spillway.client import Client
from spillway.routing import Completion
from tests.support.containers import USER, Container
from tests.support.processes import REPOSITORY, wait_until
from tests.support.redis_server import free_port
from tests.support.suite import LADDER

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("SPILLWAY_IMAGES"), reason="builds images: make images-test"),
]

SERVICES = ("ledger", "cache", "classifier", "executor", "orchestrator")
DATA = "/var/lib/spillway"
DRAIN_S, GRACE_S = 0.5, 10.0
# What an image may weigh, in bytes unpacked; the classifier has the embedding model in it.
BYTES_MAX = {"classifier": 480e6, "cache": 330e6}
BYTES_MAX_OTHERS = 220e6


@pytest.fixture(scope="module")
def images() -> None:
    if os.environ["SPILLWAY_IMAGES"] == "built":
        return
    done = subprocess.run(
        [REPOSITORY / "scripts" / "images"],
        check=False,
        capture_output=True,
        text=True,
        timeout=800,
        cwd=REPOSITORY,
        env={**os.environ, "WITH_PODMAN": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def configuration(addresses: Mapping[str, str], sandbox_url: str) -> dict[str, Any]:
    return {
        "version": 1,
        "providers": {"sandbox": {"base_url": sandbox_url + "/v1"}},
        **LADDER,
        "cache": {"store": "file", "file": f"{DATA}/cache.sqlite"},
        "classifier": {"memory": {"file": f"{DATA}/memory.json"}},
        "ledger": {"database_url": f"sqlite:///{DATA}/ledger.sqlite"},
        "orchestrator": {"decision_log": f"{DATA}/decisions.jsonl", "cache_timeout_s": 5, "classifier_timeout_s": 20},
        "services": {name: {"listen": address, "target": address} for name, address in addresses.items()},
        "limits": {"drain_s": DRAIN_S, "grace_s": GRACE_S},
    }


@pytest.fixture(scope="module")
def suite(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Container]]:
    folder = tmp_path_factory.mktemp("images")
    # What is mounted has to be readable for the containers' user, whoever runs the tests.
    for parent in (folder, folder.parent):
        parent.chmod(0o755)
    running: dict[str, Container] = {}
    try:
        port = str(free_port())
        sandbox = running["sandbox"] = Container("sandbox", folder=folder, arguments=["--port", port])
        addresses = {name: f"127.0.0.1:{free_port()}" for name in SERVICES}
        config = folder / "config" / "spillway.yaml"
        config.parent.mkdir()
        config.write_text(yaml.safe_dump(configuration(addresses, sandbox.ready()["url"])))
        for name in SERVICES:
            running[name] = Container(name, folder=folder, config=config, volumes={folder / name: DATA})
        for name in SERVICES:
            running[name].ready()
        yield running
    finally:
        for container in running.values():
            container.remove()


def target(suite: Mapping[str, Container]) -> str:
    return str(suite["orchestrator"].ready()["listen"])


def cached(client: Client) -> Completion | None:
    found = client.complete("What is the capital of France?", timeout_s=60)
    return None if found.attempts else found


def test_prompts_are_routed_through_the_suite_of_images(suite: dict[str, Container]) -> None:
    with Client(target(suite)) as client:
        first = client.complete("What is the capital of France?", timeout_s=60)
        hard = client.complete("Prove that the square root of 2 is irrational.", timeout_s=60)
        # It is stored after it has left.
        again = wait_until(lambda: cached(client), what="the answer is found again")
    assert first.text
    assert hard.text
    assert again.text == first.text
    assert first.routing.degraded == hard.routing.degraded == ()


@pytest.mark.parametrize("name", ["sandbox", *SERVICES])
def test_a_service_runs_as_nobody_special_on_a_file_system_that_it_cannot_write(
    name: str, suite: dict[str, Container]
) -> None:
    status = Path(f"/proc/{suite[name].state()['Pid']}/status").read_text()
    assert re.search(r"^Uid:\s+(\d+)\s+(\d+)", status, re.MULTILINE).groups() == (str(USER),) * 2  # type: ignore[union-attr]
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert suite[name].inspect()["HostConfig"]["ReadonlyRootfs"] is True
    assert suite[name].changed() == []
    assert "Read-only file system" not in suite[name].logs()


def inspect(name: str) -> dict[str, Any]:
    raw = subprocess.run(
        ["podman", "image", "inspect", f"docker.io/spillway/{name}:0.1.0"], check=True, capture_output=True, text=True
    ).stdout
    image: dict[str, Any] = json.loads(raw)[0]
    return image


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_starts_no_threads_for_small_products(name: str, suite: dict[str, Container]) -> None:
    environ = Path(f"/proc/{suite[name].state()['Pid']}/environ").read_text().split("\0")
    assert {f"{variable}={threads}" for variable, threads in THREADS.items()} <= set(environ)


def test_what_is_the_same_in_all_images_is_the_same_layers(images: None) -> None:
    layers = [inspect(name)["RootFS"]["Layers"] for name in ("sandbox", *SERVICES)]
    # A service's own packages, and its model.
    assert len({tuple(own[:-2]) for own in layers}) == 1
    assert len({own[-2] for own in layers}) == len(layers)


@pytest.mark.parametrize("name", ["sandbox", *SERVICES])
def test_an_image_says_what_it_is_and_is_small(name: str, images: None) -> None:
    image = inspect(name)
    labels = image["Labels"]
    assert labels["org.opencontainers.image.title"] == f"spillway-{name}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", labels["org.opencontainers.image.revision"])
    assert image["Config"]["User"] == f"{USER}:{USER}"
    assert image["Config"]["Entrypoint"][0].startswith("/")
    assert image["Size"] <= BYTES_MAX.get(name, BYTES_MAX_OTHERS), f"{image['Size'] / 2**20:.0f} MiB"


def test_the_bill_of_an_image_names_its_python_and_its_debian_packages(images: None) -> None:
    done = subprocess.run(
        [REPOSITORY / "scripts" / "sbom", "--images"], check=False, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("sandbox", *SERVICES):
        bill = json.loads((REPOSITORY / ".spillway" / "sbom" / f"{name}.image.cdx.json").read_text())
        found = {component["purl"].partition("@")[0] for component in bill["components"]}
        assert {"pkg:pypi/grpcio", "pkg:deb/debian/libc6", "pkg:deb/debian/python3.11"} <= found


@pytest.mark.parametrize("name", ["orchestrator", *SERVICES[:-1], "sandbox"])
def test_sigterm_ends_a_service_within_its_grace(name: str, suite: dict[str, Container]) -> None:
    assert suite[name].terminate(within_s=DRAIN_S + GRACE_S + 5.0) == 0
