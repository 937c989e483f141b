"""What `up` decides before it starts anything."""

from __future__ import annotations

import os
import socket
import sys
from importlib import resources
from pathlib import Path
from unittest import mock

import pytest

from services.runtime import dev_certs
from spillway.calling import TLS_CA_VARIABLE, TLS_CERT_VARIABLE, TLS_KEY_VARIABLE
from spillway.cli.certificates import adopt
from spillway.cli.state import learned_in
from spillway.cli.suite import Suite, SuiteError, SuiteOptions, check_addresses, plan_suite

CONFIG = """
version: 1
providers: {p: {base_url: "http://127.0.0.1:1/v1"}}
tiers:
  - name: only
    targets: [{name: t, provider: p, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}}]
services:
  orchestrator: {listen: "127.0.0.1:14001", target: "127.0.0.1:14001"}
"""


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(home: Path, environment: dict[str, str] | None = None, **options: object) -> Suite:
    return plan_suite(SuiteOptions(free_ports=True, **options), environment or {}, home)  # type: ignore[arg-type]


def names(suite: Suite) -> list[str]:
    return [process.name for process in suite.processes]


def test_without_a_key_the_sandbox_answers_and_it_is_said_plainly(tmp_path: Path) -> None:
    suite = plan(tmp_path)
    assert names(suite) == ["orchestrator", "classifier", "cache", "executor", "ledger", "sandbox"]
    (note,) = [note for note in suite.notes if "sandbox" in note]
    assert note.startswith("no OPENAI_API_KEY: the built-in sandbox answers; its answers are scripted")
    assert "one fixed text, which is accepted and cached" in note
    executor, sandbox = suite.processes[3], suite.processes[-1]
    assert executor.environ["OPENAI_BASE_URL"] == f"{sandbox.address}/v1"
    assert suite.trace_query_url == sandbox.address
    assert "--otlp-port" in sandbox.command
    assert executor.environ["OTEL_EXPORTER_OTLP_ENDPOINT"].endswith(sandbox.command[-1])


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_BASE_URL"])
def test_a_key_or_a_providers_address_means_no_sandbox(tmp_path: Path, variable: str) -> None:
    suite = plan(tmp_path, {variable: "http://127.0.0.1:1/v1"})
    assert "sandbox" not in names(suite)
    assert not suite.sandbox
    assert suite.processes[0].environ[variable] == "http://127.0.0.1:1/v1"


def test_real_models_have_a_trace_store_unless_a_collector_is_named(tmp_path: Path) -> None:
    key = {"OPENAI_API_KEY": "k"}
    suite = plan(tmp_path, key)
    store = suite.processes[-1]
    assert (store.name, suite.trace_query_url) == ("traces", store.address)
    assert "--traces-only" in store.command
    assert suite.settings.telemetry.otlp_endpoint == f"http://127.0.0.1:{store.command[-1]}"

    (tmp_path / "mine.yaml").write_text(CONFIG.partition("services:")[0])
    suite = plan(tmp_path, config=tmp_path / "mine.yaml")  # it says nothing of telemetry
    assert suite.trace_query_url == suite.processes[-1].address
    assert suite.processes[0].environ["OTEL_EXPORTER_OTLP_ENDPOINT"].endswith(suite.processes[-1].command[-1])

    with (tmp_path / "mine.yaml").open("a") as file:
        file.write("telemetry: {otlp_endpoint: 'http://jaeger:4317'}\n")
    for named in (
        plan(tmp_path, key | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4317"}),
        plan(tmp_path, config=tmp_path / "mine.yaml"),
    ):
        assert "traces" not in names(named)
        assert named.trace_query_url == ""


def test_without_the_sandboxs_extra_real_models_serve_and_no_traces_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    suite = plan(tmp_path, {"OPENAI_API_KEY": "k"})
    assert names(suite) == ["orchestrator", "classifier", "cache", "executor", "ledger"]
    assert suite.settings.telemetry.otlp_endpoint == ""


def test_a_configuration_of_ones_own_means_no_sandbox_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG)
    options = SuiteOptions(config=tmp_path / "mine.yaml")
    assert "sandbox" not in names(plan_suite(options, {}, tmp_path))
    (tmp_path / "mine.yaml").write_text(CONFIG.replace("http://127.0.0.1:1/v1", "${OPENAI_BASE_URL}"))
    options = SuiteOptions(config=tmp_path / "mine.yaml", sandbox=True)
    assert "sandbox" in names(plan_suite(options, {}, tmp_path))


def test_a_sandbox_that_nothing_would_ask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG)
    with pytest.raises(SuiteError, match=r"\$\{OPENAI_BASE_URL\}"):
        plan_suite(SuiteOptions(config=tmp_path / "mine.yaml", sandbox=True), {}, tmp_path)


def test_services_that_are_not_installed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SuiteError, match=r"not installed: cache\..*spillway\[all\]"):
        plan(tmp_path)


def test_a_real_key_never_reaches_what_talks_to_the_sandbox(tmp_path: Path) -> None:
    suite = plan(tmp_path, {"OPENAI_API_KEY": "sk-real"}, sandbox=True)
    assert {process.environ.get("OPENAI_API_KEY") for process in suite.processes[:4]} == {"sandbox"}


def test_recorded_answers_bring_their_own_configuration(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    suite = plan(tmp_path, recorded=(Path("rows.jsonl"),))
    assert suite.config_path.name == "replay.yaml"
    assert str(tmp_path / "rows.jsonl") in suite.processes[-1].command
    assert suite.settings.flagship_target.name == "claude-3-5-sonnet"


def test_a_collector_of_ones_own_gets_the_traces(tmp_path: Path) -> None:
    suite = plan(tmp_path, otlp_url="http://127.0.0.1:4317")
    assert suite.processes[0].environ["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4317"
    assert "--otlp-port" not in suite.processes[-1].command
    assert suite.trace_query_url == ""


def test_small_products_take_one_thread_unless_the_owner_says_how_many(tmp_path: Path) -> None:
    for process in plan(tmp_path).processes[:5]:
        assert process.environ["OPENBLAS_NUM_THREADS"] == process.environ["OMP_NUM_THREADS"] == "1"
    for process in plan(tmp_path, {"OPENBLAS_NUM_THREADS": "3"}).processes[:5]:
        assert process.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_several_executors_share_one_target(tmp_path: Path) -> None:
    suite = plan(tmp_path, executors=3)
    executors = [process for process in suite.processes if process.name.startswith("executor")]
    assert [process.name for process in executors] == ["executor", "executor-2", "executor-3"]
    assert len({process.address for process in executors}) == 3
    target = "ipv4:" + ",".join(process.address for process in executors)
    assert suite.settings.services.executor.target == target
    assert [process.command[-1] for process in executors] == [process.address for process in executors]


def test_the_front_stops_first_and_the_provider_last(tmp_path: Path) -> None:
    ranks = {process.name: process.stop_rank for process in plan(tmp_path).processes}
    assert ranks["orchestrator"] < ranks["executor"] == ranks["cache"] == ranks["classifier"] < ranks["sandbox"]


def test_fixed_addresses_of_a_configuration_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG)
    suite = plan_suite(SuiteOptions(config=tmp_path / "mine.yaml"), {}, tmp_path)
    assert suite.target == suite.processes[0].address == "127.0.0.1:14001"


def test_free_ports_need_a_configuration_that_follows_them(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG)
    with pytest.raises(SuiteError, match=r"SPILLWAY_ORCHESTRATOR_LISTEN:-127\.0\.0\.1:14001"):
        plan(tmp_path, config=tmp_path / "mine.yaml")


def test_a_configuration_that_says_nothing_of_addresses_follows_free_ports(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG.partition("services:")[0])
    suite = plan(tmp_path, config=tmp_path / "mine.yaml", executors=2)
    assert suite.target == suite.processes[0].address != "127.0.0.1:50051"
    assert suite.settings.services.executor.target.startswith("ipv4:")


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "mine.yaml").write_text(CONFIG.replace("127.0.0.1:14001", address))
        with pytest.raises(SuiteError, match=rf"{address} \(orchestrator\) is in use"):
            check_addresses(plan_suite(SuiteOptions(config=tmp_path / "mine.yaml"), {}, tmp_path))


def test_free_ports_are_free(tmp_path: Path) -> None:
    check_addresses(plan(tmp_path, executors=4))


def test_a_wrong_configuration_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG.replace("provider: p,", "provider: q,"))
    with pytest.raises(SuiteError, match=r"tiers\[0\]\.targets\[0\]\.provider"):
        plan_suite(SuiteOptions(config=tmp_path / "mine.yaml"), {}, tmp_path)


def test_recordings_that_are_not_there_and_contradictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"no such file: gone\.jsonl"):
        plan(tmp_path, recorded=(Path("gone.jsonl"),))
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(SuiteError, match="--no-sandbox"):
        plan(tmp_path, recorded=(Path("rows.jsonl"),), sandbox=False)


def test_a_missing_model_is_said_plainly(tmp_path: Path) -> None:
    suite = plan(tmp_path, {"SPILLWAY_MODEL_DIR": str(tmp_path / "nothing")})
    assert any("embedding model" in note for note in suite.notes)


def test_a_key_that_is_named_and_not_there_is_said_before_anything_fails(tmp_path: Path) -> None:
    def notes(variables: dict[str, str], provider: str) -> list[str]:
        (tmp_path / "mine.yaml").write_text(CONFIG.replace('/v1"}', f'/v1", {provider}}}'))
        suite = plan_suite(SuiteOptions(config=tmp_path / "mine.yaml"), variables, tmp_path)
        return [note for note in suite.notes if "key" in note]

    (note,) = notes({}, "api_key_env: SOME_KEY")
    assert note.startswith("provider p: the environment variable SOME_KEY is empty")
    (note,) = notes({"SOME_KEY": " "}, "api_key_env: gsk_abcdef123")
    assert "gsk_" not in note
    assert not notes({"SOME_KEY": "k"}, "api_key_env: SOME_KEY")
    assert not notes({}, "api_key_env: SOME_KEY, api_key_file: f")
    assert not notes({}, "kind: openai")
    assert not [note for note in plan(tmp_path).notes if "without a key" in note]


def test_another_model_at_the_old_price_is_said_plainly(tmp_path: Path) -> None:
    models = {"SPILLWAY_SIMPLE_MODEL": "llama3.2:1b", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    (note,) = [note for note in plan(tmp_path, models).notes if "savings" in note]
    assert "mean nothing yet: llama3.2:1b has the price of gpt-4.1-nano;" in note
    assert "default.yaml" in note
    assert not [note for note in plan(tmp_path).notes if "savings" in note]


def test_the_prices_of_a_configuration_of_ones_own_are_taken_as_meant(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG.replace("model: m", 'model: "${SPILLWAY_SIMPLE_MODEL:-m}"'))
    options = SuiteOptions(config=tmp_path / "mine.yaml")
    suite = plan_suite(options, {"SPILLWAY_SIMPLE_MODEL": "llama3.2:1b"}, tmp_path)
    assert not [note for note in suite.notes if "savings" in note]


def test_a_ledger_that_is_not_enabled_is_not_started(tmp_path: Path) -> None:
    path = tmp_path / "spillway.yaml"
    packaged = Path(str(resources.files("spillway"))) / "configs" / "default.yaml"
    path.write_text(packaged.read_text().replace("\nledger:\n", "\nledger:\n  enabled: false\n"))
    assert "ledger" not in names(plan(tmp_path, config=path, sandbox=True))


def test_the_packaged_configurations_keep_the_ledger_beside_the_state(tmp_path: Path) -> None:
    for packaged in (Path(str(resources.files("spillway"))) / "configs").glob("*.yaml"):
        suite = plan(tmp_path, learned_in(tmp_path), config=packaged, sandbox=True)
        assert suite.settings.ledger.database_url == f"sqlite:///{tmp_path}/.spillway/ledger.sqlite", packaged


BEHIND_TLS = (
    CONFIG
    + """
tls: {cert_file: "c/{service}/tls.crt", key_file: "c/{service}/tls.key", ca_file: c/ca.crt}
"""
)


def test_certificates_of_the_file_are_those_that_the_suite_is_called_with(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(BEHIND_TLS)
    options = SuiteOptions(config=tmp_path / "mine.yaml")
    dev_certs.make(tmp_path / "c")
    own = tmp_path / "c" / "client"
    expected = (str(tmp_path / "c" / "ca.crt"), str(own / "tls.crt"), str(own / "tls.key"))
    assert plan_suite(options, {}, tmp_path).certificates == expected
    assert plan_suite(options, {"SPILLWAY_TLS_CA": "other.crt"}, tmp_path).certificates == ()
    assert plan(tmp_path).certificates == ()


def test_a_caller_whom_nobody_asks_for_a_certificate_needs_the_authority_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(BEHIND_TLS.replace("ca.crt}", "ca.crt, require_client_certificate: []}"))
    options = SuiteOptions(config=tmp_path / "mine.yaml")
    dev_certs.make(tmp_path / "c")
    own = tmp_path / "c" / "client"
    (own / "tls.key").unlink()
    with pytest.raises(SuiteError, match=r"tls\.key"):  # half a pair is a mistake
        plan_suite(options, {}, tmp_path)
    (own / "tls.crt").unlink()
    assert plan_suite(options, {}, tmp_path).certificates == (str(tmp_path / "c" / "ca.crt"),)


@pytest.mark.parametrize("files", [("ca.crt",), ("ca.crt", "tls.crt", "tls.key")])
def test_what_there_is_of_certificates_is_adopted(files: tuple[str, ...]) -> None:
    with mock.patch.dict(os.environ, clear=True):
        adopt(files)
        assert dict(os.environ) == dict(
            zip((TLS_CA_VARIABLE, TLS_CERT_VARIABLE, TLS_KEY_VARIABLE), files, strict=False)
        )


@pytest.mark.parametrize(("owner", "whose"), [("cache", "cache"), ("client", "`spillway up` itself")])
def test_a_certificate_that_is_not_there_is_named_with_what_makes_it(tmp_path: Path, owner: str, whose: str) -> None:
    (tmp_path / "mine.yaml").write_text(BEHIND_TLS)
    options = SuiteOptions(config=tmp_path / "mine.yaml")
    dev_certs.make(tmp_path / "c")
    missing = tmp_path / "c" / owner / "tls.key"
    missing.unlink()
    with pytest.raises(SuiteError) as caught:
        plan_suite(options, {}, tmp_path)
    assert f"{missing}, a certificate of {whose}" in str(caught.value)
    assert f"dev-certs {tmp_path / 'c'}`" in str(caught.value)
