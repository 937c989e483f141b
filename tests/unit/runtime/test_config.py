"""Reading spillway.yaml: everything that is wrong is said at once, with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runtime import config
from services.runtime.config import ConfigError, load
from spillway.configuration.document import BYTES_MAX, Problem, parse
from spillway.configuration.wording import PATTERNS
from spillway.settings import SelfConfidenceGate, Services, Settings

GOOD = """\
providers:
  p: {base_url: "http://127.0.0.1:1/v1"}
tiers:
  - name: simple
    targets:
      - {name: a, provider: p, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  - name: complex
    targets:
      - {name: b, provider: p, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
"""


def problems(folder: Path, text: str | bytes, environment: dict[str, str] | None = None) -> dict[str, tuple[int, str]]:
    """What is wrong, by path: line and messages."""
    path = folder / "spillway.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(path, environment or {})
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
    found: dict[str, tuple[int, str]] = {}
    for problem in caught.value.problems:
        before = found[problem.path][1] + "; " if problem.path in found else ""
        found[problem.path] = (problem.line, before + problem.message)
    return found


def good(folder: Path, text: str, environment: dict[str, str] | None = None) -> config.Loaded:
    path = folder / "spillway.yaml"
    path.write_text(text)
    return load(path, environment or {})


def test_the_default_file_is_good_without_any_variable() -> None:
    loaded = load(Path(str(config._DEFAULT)), {})
    settings = loaded.settings
    assert [tier.name for tier in settings.tiers] == ["simple", "medium", "complex"]
    assert [tier.targets[0].name for tier in settings.tiers] == ["small-1", "mid-1", "flagship-1"]
    assert [tier.targets[0].model for tier in settings.tiers] == ["gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1"]
    assert [tier.gates for tier in settings.tiers[:2]] == [
        [SelfConfidenceGate(kind="self_confidence", threshold=3)]
    ] * 2
    assert settings.flagship_target.name == "flagship-1"
    assert settings.services.executor.listen == settings.services.executor.target == "127.0.0.1:50054"
    assert settings.telemetry.otlp_endpoint == ""


def test_the_default_file_follows_its_variables() -> None:
    environment = {
        "OPENAI_BASE_URL": "http://127.0.0.1:11434/v1",
        "SPILLWAY_SIMPLE_MODEL": "llama3.2",
        "SPILLWAY_CACHE_LISTEN": "0.0.0.0:1",
        "SPILLWAY_CACHE_TARGET": "dns:///cache:1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4317",
    }
    settings = load(Path(str(config._DEFAULT)), environment).settings
    assert settings.providers["default"].base_url == "http://127.0.0.1:11434/v1"
    assert settings.tiers[0].targets[0].model == "llama3.2"
    assert (settings.services.cache.listen, settings.services.cache.target) == ("0.0.0.0:1", "dns:///cache:1")
    assert settings.telemetry.otlp_endpoint == "http://jaeger:4317"


def test_addresses_that_a_file_leaves_out_follow_the_variables_and_those_that_it_has_do_not(tmp_path: Path) -> None:
    environment = {
        f"SPILLWAY_{name}_{what}": "127.0.0.1:7" for name in ("CACHE", "LEDGER") for what in ("LISTEN", "TARGET")
    }
    text = f"{GOOD}services: {{ledger: {{listen: '127.0.0.1:8', target: '127.0.0.1:9'}}}}\n"
    for services in (
        good(tmp_path, GOOD, environment).settings.services,
        good(tmp_path, text, environment).settings.services,
    ):
        assert (services.cache.listen, services.cache.target) == ("127.0.0.1:7", "127.0.0.1:7")
        assert services.executor == Services().executor
    assert (services.ledger.listen, services.ledger.target) == ("127.0.0.1:8", "127.0.0.1:9")
    assert good(tmp_path, GOOD).settings.services == Services()


@pytest.mark.parametrize("services", ["null", "[]", "{cache: null}", "{cache: {listen: x}}"])
def test_addresses_that_are_none_are_an_error_and_not_left_out(tmp_path: Path, services: str) -> None:
    environment = {"SPILLWAY_CACHE_LISTEN": "127.0.0.1:7", "SPILLWAY_CACHE_TARGET": "127.0.0.1:7"}
    (place,) = problems(tmp_path, f"{GOOD}services: {services}\n", environment)
    assert place.startswith("services")


def test_the_file_is_found_by_argument_then_variable_then_folder_then_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {}).path.name == "default.yaml"
    (tmp_path / "spillway.yaml").write_text(GOOD)
    assert load(None, {}).path == Path("spillway.yaml")
    named = tmp_path / "named.yaml"
    named.write_text(GOOD)
    assert load(None, {"SPILLWAY_CONFIG": str(named)}).path == named
    assert load(Path("spillway.yaml"), {"SPILLWAY_CONFIG": str(named)}).path == Path("spillway.yaml")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml", {})


def test_the_version_is_of_the_values_and_not_of_their_spelling(tmp_path: Path) -> None:
    first = good(tmp_path, GOOD)
    assert len(first.version) == 12
    assert int(first.version, 16) >= 0
    assert good(tmp_path, "# a remark\n" + GOOD + "version: 1\n").version == first.version
    assert good(tmp_path, GOOD + "flagship: a\n").version != first.version


def test_errors_of_type_and_of_reference_come_together_with_path_and_line(tmp_path: Path) -> None:
    text = """\
providers:
  p: {base_url: "ftp://nowhere"}
tiers:
  - name: simple
    targets:
      - {name: a, provider: p, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
      - {name: b, provider: q, model: m, price: {input_usd_per_mtok: -1, output_usd_per_mtok: 2}}
    gates:
      - {kind: agreement, second_target: z, normaliser: auto}
      - {kind: rules, must_match: ["(", "fine"], chars_min: 5, chars_max: 3}
      - {kind: juggling}
  - name: simple
    targets:
      - {name: a, provider: p, model: m, price: {input_usd_per_mtok: 1}}
flagship: nobody
policy:
  bypass_tier: nowhere
  start_tier: {simple: nope, easy: simple}
  rules:
    - name: one
      when: {}
      then: {target: gone, tier_floor: low, tier_ceiling: high}
    - name: one
      when: {has_tools: maybe}
      then: {start_tier: top}
cache:
  store: redis
limits:
  drain_s: a while
"""
    found = problems(tmp_path, text)
    lines = {path: line for path, (line, _) in found.items()}
    assert lines == {
        "providers.p.base_url": 2,
        "tiers[0].targets[1].provider": 7,
        "tiers[0].targets[1].price.input_usd_per_mtok": 7,
        "tiers[0].gates[0].second_target": 9,
        "tiers[0].gates[0].normaliser": 9,
        "tiers[0].gates[1].must_match[0]": 10,
        "tiers[0].gates[1].chars_max": 10,
        "tiers[0].gates[2]": 11,
        "tiers[1].name": 12,
        "tiers[1].targets[0].name": 14,
        "tiers[1].targets[0].price.output_usd_per_mtok": 14,
        "flagship": 15,
        "policy.bypass_tier": 17,
        "policy.start_tier.simple": 18,
        "policy.start_tier.easy": 18,
        "policy.rules[0].then.target": 22,
        "policy.rules[0].then.tier_floor": 22,
        "policy.rules[0].then.tier_ceiling": 22,
        "policy.rules[1]": 23,
        "policy.rules[1].name": 23,
        "policy.rules[1].when.has_tools": 24,
        "policy.rules[1].then.start_tier": 25,
        "cache.redis_url": 26,
        "limits.drain_s": 29,
    }
    assert found["tiers[0].targets[1].provider"][1] == "there is no provider 'q'"
    assert found["policy.rules[1]"][1] == "can never match: the rule in line 20 has no condition"
    assert "line 4" in found["tiers[1].name"][1]


def test_a_key_where_its_variables_name_belongs_is_said_with_its_place_and_without_the_key(tmp_path: Path) -> None:
    text = GOOD.replace('/v1"}', '/v1", api_key_env: sk-abcdef123}')
    (place,) = problems(tmp_path, text).items()
    assert place[0] == "providers.p.api_key_env"
    assert "sk-abcdef123" not in place[1][1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("flagshipp: x", "flagshipp: is an unknown key; did you mean flagship?"),
        ("log: {level: loud}", "log.level: must be 'debug', 'info', 'warning' or 'error'"),
        ("log: {zebra: 1}", "log.zebra: is an unknown key; there are level"),
        ("limits: {grace_s: soon}", "limits.grace_s: must be a number"),
        ("classifier: []", "classifier: must be keys with values"),
        ("executor: {confidence_min: 2}", "executor.confidence_min: must be at most 1"),
        (
            "policy: {rules: [{name: a, when: {has_kode: true}}]}",
            "policy.rules[0].when.has_kode: is an unknown key; did you mean has_code?",
        ),
        (
            "tiers: [{name: a, targets: [], gates: [{kind: self_confidence, rubric: x}]}]",
            "tiers[0].gates[0].rubric: is an unknown key; there are kind, threshold",
        ),
        (
            "providers: {p: {base_url: 'localhost:8000'}}",
            "providers.p.base_url: must begin with http:// or https://, and have no spaces",
        ),
        (
            "providers: {p: {base_url: 'http://h/v1/chat/completions'}}",
            "providers.p.base_url: must end before /chat/completions, which Spillway adds itself",
        ),
    ],
)
def test_what_is_wrong_is_said_in_words_for_who_wrote_the_file(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "spillway.yaml"
    path.write_text(f"version: 1\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert f"line 2: {says}" in [str(problem) for problem in caught.value.problems]


def test_every_pattern_of_the_schema_has_words() -> None:
    def patterns(schema: object) -> Iterator[str]:
        if isinstance(schema, dict):
            if isinstance(schema.get("pattern"), str):
                yield schema["pattern"]
            for each in schema.values():
                yield from patterns(each)
        elif isinstance(schema, list):
            for each in schema:
                yield from patterns(each)

    of_variables = {r"^([A-Za-z_][A-Za-z0-9_]{0,127})?$"}  # checked by words of its own
    assert set(patterns(Settings.model_json_schema())) == set(PATTERNS) | of_variables


def test_a_second_target_of_another_tier_is_an_error(tmp_path: Path) -> None:
    text = GOOD.replace("  - name: complex", "    gates: [{kind: agreement, second_target: b}]\n  - name: complex")
    assert list(problems(tmp_path, text)) == ["tiers[0].gates[0].second_target"]
    good(tmp_path, text.replace("second_target: b", "second_target: a"))


@pytest.mark.parametrize(
    ("then", "places"),
    [
        ("tiers: [simple, complex]", []),
        ("tiers: [complex], tier_floor: complex, start_tier: complex", []),
        ("tiers: [simple, gone]", ["tiers[1]"]),
        ("tiers: [complex, simple]", ["tiers"]),
        ("tiers: [simple, simple]", ["tiers"]),
        ("tiers: []", ["tiers"]),
        ("tiers: [simple], tier_floor: complex", ["tiers"]),
        ("tiers: [complex], tier_ceiling: simple", ["tiers"]),
    ],
)
def test_the_tiers_that_a_rule_chooses_are_known_and_in_order(tmp_path: Path, then: str, places: list[str]) -> None:
    text = GOOD + f"policy: {{rules: [{{name: r, when: {{has_tools: true}}, then: {{{then}}}}}]}}\n"
    if places:
        assert list(problems(tmp_path, text)) == [f"policy.rules[0].then.{place}" for place in places]
    else:
        good(tmp_path, text)


def test_a_floor_above_the_ceiling_of_a_rule_is_an_error(tmp_path: Path) -> None:
    rule = "policy: {rules: [{name: r, when: {has_tools: true}, then: {tier_floor: complex, tier_ceiling: simple}}]}\n"
    assert list(problems(tmp_path, GOOD + rule)) == ["policy.rules[0].then.tier_ceiling"]


def test_two_quotas_of_one_name_are_an_error(tmp_path: Path) -> None:
    quotas = "quotas:\n  budgets: [{name: q, period: day, cost_usd: 1}]\n  rates: [{name: q, requests_per_minute: 1}]\n"
    assert list(problems(tmp_path, GOOD + quotas)) == ["quotas.rates[0].name"]


def test_a_last_rule_without_a_condition_is_fine(tmp_path: Path) -> None:
    rules = "[{name: r, when: {has_tools: true}, then: {target: a}}, {name: s, when: {}, then: {target: b}}]"
    assert len(good(tmp_path, f"{GOOD}policy: {{rules: {rules}}}\n").settings.policy.rules) == 2


def test_a_key_given_twice_is_an_error_with_both_lines(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD + "flagship: a\nflagship: b\n")
    assert found == {"flagship": (11, "is given twice, first in line 10")}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${MODEL}", "from-env"),
        ("${MODEL:-fallback}", "from-env"),
        ("${NONE:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("a-${MODEL}-${NONE:-b}", "a-from-env-b"),
        ("$${MODEL}", "${MODEL}"),
        ("cost$", "cost$"),
    ],
)
def test_variables_are_filled_in(tmp_path: Path, text: str, value: str) -> None:
    environment = {"MODEL": "from-env", "EMPTY": ""}
    loaded = good(tmp_path, GOOD.replace("model: m", f'model: "{text}"', 1), environment)
    assert loaded.settings.tiers[0].targets[0].model == value


def test_a_variable_may_hold_a_number(tmp_path: Path) -> None:
    loaded = good(tmp_path, GOOD + "telemetry: {sample_ratio: '${RATIO:-0.25}'}\n")
    assert loaded.settings.telemetry.sample_ratio == 0.25


def test_a_variable_that_is_not_set_is_an_error_where_it_stands(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("model: m", 'model: "${NOT_SET}"', 1))
    line, message = found["tiers[0].targets[0].model"]
    assert line == 6
    assert "NOT_SET" in message


def test_what_a_variable_holds_is_not_read_as_yaml(tmp_path: Path) -> None:
    loaded = good(tmp_path, GOOD.replace("model: m", 'model: "${MODEL}"', 1), {"MODEL": "x, price: {}\n${MODEL} # y"})
    assert loaded.settings.tiers[0].targets[0].model == "x, price: {}\n${MODEL} # y"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the file is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: [", "no YAML"),
        (b"a: 1\n---\nb: 2\n", "no YAML"),
        (b"a\x00: 1", "no YAML"),
        (b"[" * 100_000, "levels deep"),
        (b"{a: " * 40 + b"1" + b"}" * 40, "levels deep"),
        (b"a: !!python/object/apply:os.system ['true']\n", "has a tag"),
        (b"a: !!binary aGk=\n", "has a tag"),
        (b"a: &x {b: 1}\nc: {<<: *x}\n", "has a key that is not text"),
        (b"1: a\n", "has a key that is not text"),
        (b"? [a]\n: b\n", "has a key that is not text"),
        (b"a: &a [*a]\n", "levels deep"),
        (b"just text", "must be keys with values"),
        (b"#" + b"x" * BYTES_MAX, "larger than"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    assert any(message in text for _, text in problems(tmp_path, raw).values())


def test_a_bomb_of_aliases_ends_early(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    found = problems(tmp_path, "\n".join(levels))
    assert any("values" in message for _, message in found.values())


def test_an_alias_used_once_is_fine(tmp_path: Path) -> None:
    text = GOOD.replace("price: {", "price: &price {", 1) + "flagship: b\n"
    head, _, tail = text.rpartition("price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}")
    text = f"{head}price: *price{tail}"
    assert good(tmp_path, text).settings.tiers[1].targets[0].price.output_usd_per_mtok == 2


@pytest.mark.parametrize("key", ["must_match", "must_not_match"])
@pytest.mark.parametrize("pattern", ["(?=a)b", "(?<!a)b", r"(a)\\1", "("])
def test_a_pattern_that_the_executor_would_refuse_is_an_error_of_the_file(
    tmp_path: Path, key: str, pattern: str
) -> None:
    gate = f'    gates: [{{kind: rules, {key}: ["fine", "{pattern}"]}}]\n'
    text = GOOD.replace("  - name: complex\n", gate + "  - name: complex\n")
    found = problems(tmp_path, text)
    assert list(found) == [f"tiers[0].gates[0].{key}[1]"]
    assert "cannot be used as a regular expression" in found[f"tiers[0].gates[0].{key}[1]"][1]


def test_the_number_of_reported_problems_is_bounded() -> None:
    document = parse(b"a: 1", {})
    for i in range(1_000):
        document.add(("a", i), "is wrong")
    assert len(document.problems) == 100
    assert document.problems[0] == Problem(1, "a[0]", "is wrong")


def test_the_command_line_publishes_the_schema_and_checks_files(tmp_path: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.runtime.config", *arguments], capture_output=True, text=True, check=False
        )

    schema = json.loads(command("schema").stdout)
    assert schema["properties"]["tiers"]["maxItems"] == 8
    assert schema["additionalProperties"] is False
    path = tmp_path / "spillway.yaml"
    path.write_text(GOOD + "flagship: none\n")
    bad = command("check", str(path))
    assert bad.returncode == 2
    assert "line 10: flagship: there is no target 'none'" in bad.stderr
    path.write_text(GOOD)
    assert command("check", str(path)).returncode == 0
    assert json.loads(command("show", str(path)).stdout)["limits"]["concurrent_rpcs_max"] == 256


@pytest.mark.parametrize("path", sorted(Path("spillway/configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_packaged_configuration_is_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    assert load(path).settings.flagship_target.name
