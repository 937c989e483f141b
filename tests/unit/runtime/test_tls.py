"""Certificate files: which are taken over, which are refused, and what is said of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pydantic import ValidationError
from structlog.testing import capture_logs

from services.runtime import dev_certs
from services.runtime.clock import FakeClock
from services.runtime.config import SecretError
from services.runtime.dev_certs import Authority, Issued
from services.runtime.peer import not_admitted, peer_names
from services.runtime.tls import FILE_BYTES_MAX, POLL_S, SETTLE_S, Certificates, Pems, open_certificates
from spillway.settings import Tls
from tests.support.certificates import CertificateFolders
from tests.support.following import numbers, through
from tests.support.waiting import until

DAY_S = 86_400.0


class Bench:
    """Certificates of the process "executor", over real files and a fake clock that begins now."""

    def __init__(self, folder: Path) -> None:
        self.folders = CertificateFolders(folder).make("executor")
        self.own = folder / "executor"
        self.clock = FakeClock(unix=time.time())
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.settings = Tls.model_validate(self.folders.settings)
        self.certificates = self.opened()
        self.taken: list[Pems] = []
        self.unfollow = self.certificates.follow(self.taken.append)

    def opened(self) -> Certificates:
        return Certificates(self.settings, "executor", clock=self.clock, meter=self._provider.get_meter("test"))

    async def look(self) -> None:
        """A look, with the time that it takes."""
        await self.through(asyncio.create_task(self.certificates.look()))

    async def through(self, task: asyncio.Task[None]) -> None:
        await through(task, self.clock, SETTLE_S)

    def metrics(self) -> dict[tuple[str, str], float]:
        return numbers(self._reader, "spillway.tls.")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_new_files_are_taken_over_once(bench: Bench) -> None:
    await bench.look()
    assert bench.taken == []
    issued = bench.folders.issue("executor")
    await bench.look()
    await bench.look()
    assert [pems.certificate for pems in bench.taken] == [issued.certificate]
    assert bench.certificates.current.certificate == issued.certificate
    assert bench.metrics() == {("reloads", "applied"): 1, ("reloads", "refused"): 0, ("refused", ""): 0}


async def test_a_new_authority_alone_is_taken_over_too(bench: Bench) -> None:
    other = Authority.create("second")
    bench.folders.trust("executor", bench.folders.authority, other)
    await bench.look()
    assert bench.taken[0].authorities.count(b"BEGIN CERTIFICATE") == 2


async def test_who_follows_no_more_is_told_nothing(bench: Bench) -> None:
    bench.unfollow()
    bench.folders.issue("executor")
    await bench.look()
    assert bench.taken == []


def half(bench: Bench) -> None:
    (bench.own / "tls.crt").write_bytes(bench.folders.authority.issue("executor").certificate)


def expired(bench: Bench) -> None:
    bench.folders.put("executor", bench.folders.authority.issue("executor", days=-1))


def cut_short(bench: Bench) -> None:
    pem = (bench.own / "tls.crt").read_bytes()
    (bench.own / "tls.crt").write_bytes(pem[: len(pem) // 2])


def no_key(bench: Bench) -> None:
    (bench.own / "tls.key").write_bytes(b"")


def no_authority(bench: Bench) -> None:
    (bench.own / "ca.crt").write_bytes(b"\n")


def gone(bench: Bench) -> None:
    (bench.own / "tls.key").unlink()


def too_large(bench: Bench) -> None:
    (bench.own / "ca.crt").write_bytes(b"#" * (FILE_BYTES_MAX + 1))


TROUBLES = {
    half: "is not that of the certificate",
    expired: "expired on",
    cut_short: "holds no certificates",
    no_key: "holds no key",
    no_authority: "holds no certificates",
    gone: "No such file",
    too_large: "is larger than",
}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_what_cannot_be_used_is_refused_once_and_the_old_ones_stay(bench: Bench, trouble: object) -> None:
    before = bench.certificates.current
    trouble(bench)  # type: ignore[operator]
    with capture_logs() as logs:
        await bench.look()
        await bench.look()
    (entry,) = logs
    assert (entry["event"], entry["log_level"]) == ("tls_refused", "error")
    assert TROUBLES[trouble] in entry["reason"]  # type: ignore[index]
    assert bench.certificates.current is before
    assert bench.taken == []
    assert bench.metrics() == {("reloads", "applied"): 0, ("reloads", "refused"): 1, ("refused", ""): 1}
    issued = bench.folders.issue("executor")
    bench.folders.trust("executor")
    await bench.look()
    assert [pems.certificate for pems in bench.taken] == [issued.certificate]
    assert bench.metrics()["refused", ""] == 0


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
async def test_a_process_does_not_start_with_what_cannot_be_used(bench: Bench, trouble: object) -> None:
    trouble(bench)  # type: ignore[operator]
    with pytest.raises(SecretError, match=TROUBLES[trouble]):  # type: ignore[index]
        bench.opened()


async def test_files_that_are_as_before_again_are_no_longer_refused_and_nobody_is_told(bench: Bench) -> None:
    kept = (bench.own / "tls.key").read_bytes()
    gone(bench)
    await bench.look()
    assert bench.metrics()["refused", ""] == 1
    (bench.own / "tls.key").write_bytes(kept)
    await bench.look()
    assert bench.metrics()["refused", ""] == 0
    assert bench.taken == []


async def test_a_certificate_from_the_future_is_taken_over_when_its_time_has_come(bench: Bench) -> None:
    bench.clock._unix_offset -= DAY_S
    with pytest.raises(SecretError, match="is not valid before"):
        bench.opened()
    bench.folders.issue("executor")
    await bench.look()
    assert bench.taken == []
    bench.clock._unix_offset += DAY_S
    await bench.look()
    assert len(bench.taken) == 1


async def test_what_is_being_written_is_waited_for(bench: Bench) -> None:
    issued = bench.folders.authority.issue("executor")
    (bench.own / "tls.crt").write_bytes(issued.certificate)
    with capture_logs() as logs:
        look = asyncio.create_task(bench.certificates.look())
        await until(lambda: bench.clock.sleepers)
        (bench.own / "tls.key").write_bytes(issued.key)
        await bench.through(look)
        assert bench.taken == []
        await bench.look()
    assert len(bench.taken) == 1
    assert [entry["event"] for entry in logs] == ["tls_renewed"]


async def test_files_are_looked_at_again_and_again_until_the_end(bench: Bench) -> None:
    bench.certificates.start()
    bench.certificates.start()
    for _ in range(2):
        bench.folders.issue("executor")
        told = len(bench.taken)
        async with asyncio.timeout(20):
            while len(bench.taken) == told:
                bench.clock.advance(POLL_S if bench.clock.sleepers else 0.0)
                await asyncio.sleep(0)
    await bench.certificates.close()
    assert bench.clock.sleepers == 0


async def test_no_key_is_in_a_log_or_a_text(bench: Bench) -> None:
    secret = b"".join((bench.own / "tls.key").read_bytes().splitlines()[1:-1]).decode()[:40]
    with capture_logs() as logs:
        half(bench)
        await bench.look()
        bench.folders.issue("executor")
        await bench.look()
    shown = f"{logs} {bench.certificates.current!r} {bench.taken!r} {bench.certificates!r}"
    assert secret not in shown
    assert "PRIVATE KEY" not in shown


async def test_what_expires_first_of_the_chain_counts(bench: Bench) -> None:
    leaf = bench.folders.authority.issue("executor", days=20)
    other = bench.folders.authority.issue("intermediate", days=10)
    bench.folders.put("executor", Issued(leaf.certificate + other.certificate, leaf.key))
    await bench.look()
    assert abs(bench.taken[0].expires_unix_s - (time.time() + 10 * DAY_S)) < 3_600


def test_without_files_there_is_no_tls() -> None:
    assert open_certificates(Tls(), "executor") is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"cert_file": "a"}, "needs cert_file, key_file and ca_file"),
        ({"cert_file": "a", "key_file": "b"}, "needs cert_file, key_file and ca_file"),
        ({"callers": {"cache": ["orchestrator"]}}, "callers are known by their certificates"),
        (
            {
                "cert_file": "a",
                "key_file": "b",
                "ca_file": "c",
                "require_client_certificate": ["executor"],
                "callers": {"cache": ["orchestrator"]},
            },
            "callers.cache needs cache in require_client_certificate",
        ),
        ({"cert_file": "a", "key_file": "b", "ca_file": "c", "callers": {"cache": []}}, "at least 1 item"),
        ({"cert_file": "a", "key_file": "b", "ca_file": "c", "callers": {"cache": ["*.example"]}}, "match pattern"),
        ({"cert_file": "a", "key_file": "b", "ca_file": "c", "callers": {"cash": ["orchestrator"]}}, "Input should be"),
    ],
)
def test_a_section_that_would_protect_less_than_it_says_is_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Tls.model_validate(section)


def test_names_of_a_caller_are_dns_and_uri_alone() -> None:
    context = {
        "x509_common_name": [b"common"],
        "x509_subject_alternative_name": [b"dns", b"spiffe://a/b", b"10.0.0.1", b"a@b"],
        "peer_dns": [b"dns"],
        "peer_uri": [b"spiffe://a/b"],
        "peer_ip": [b"10.0.0.1"],
        "peer_email": [b"a@b"],
    }
    assert peer_names(context) == {"dns", "spiffe://a/b"}
    assert peer_names({}) == frozenset()


def test_a_caller_without_a_name_is_not_known_and_one_with_another_may_not() -> None:
    assert not_admitted(frozenset()).reason == "UNAUTHENTICATED"
    error = not_admitted(frozenset({"cache"}))
    assert (error.reason, error.detail) == ("PERMISSION_DENIED", "certificate of cache")
    assert "cache" not in error.public


def test_development_certificates_are_made_and_made_anew_by_the_same_authority(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    command = [sys.executable, "-m", "services.runtime.tls", "dev-certs", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert str(folder / "executor") in done.stdout.splitlines()
    assert (folder / "executor" / "ca.crt").read_bytes() == (folder / "ca.crt").read_bytes()
    assert {path.stat().st_mode & 0o777 for path in folder.glob("**/*.key")} == {0o600}
    files = (("cert_file", "tls.crt"), ("key_file", "tls.key"), ("ca_file", "ca.crt"))
    settings = Tls.model_validate({name: f"{folder}/{{service}}/{file}" for name, file in files})
    first = open_certificates(settings, "executor")
    dev_certs.make(folder)
    second = open_certificates(settings, "executor")
    assert first is not None
    assert second is not None
    assert second.current.certificate != first.current.certificate
    assert second.current.authorities == first.current.authorities
