"""Dashboards and alert rules name only what the running suite shows, work in a real Prometheus, and say what to do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.table import SELDOM, table
from tests.observability.traffic import send
from tests.observability.watched import Watched
from tests.support.processes import wait_until
from tests.support.prometheus_server import PrometheusServer
from tests.support.promql import grouped_by, selectors
from tests.support.scrape import Family

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy" / "k8s" / "overlays" / "monitoring"
RULES = MONITORING / "rules" / "spillway.rules.yaml"
RULE_TESTS = Path(__file__).with_name("rules.test.yaml")
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
# Prometheus's own, and what a scrape adds.
OWN = {"up": {"job"}, "target_info": {"service_name"}}
ADDED = {"job", "instance", "le", "service_name"}

# Grafana's names: https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/#unit
UNITS = {"none", "short", "s", "bytes", "reqps", "cps", "percentunit", "currencyUSD"}


# Nothing has failed, and there have not been thousands of requests.
QUIET = {
    "cache: Errors",
    "classifier: Errors",
    "executor: Errors",
    "executor: Abstained",
    "ledger: Errors",
    "orchestrator: Failed calls of hops",
    "orchestrator: Alarms, tightening",
    "orchestrator: Of the last 1,000 of each tier, those that went higher",
    "overview: Another population?",
}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Panel and query, with Grafana's variables filled in."""
    asked = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    asked += [(note["name"], note["target"]["expr"]) for note in board["annotations"]["list"]]
    for title, query in asked:
        yield title, query.replace("$__rate_interval", "1m").replace("$__range", "1h")


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_passes_the_rules_and_their_tests(tmp_path: Path) -> None:
    promtool("check", "rules", RULES)
    tests = tmp_path / "rules.test.yaml"
    tests.write_text(RULE_TESTS.read_text().replace("[RULES]", f"[{RULES}]"))
    promtool("test", "rules", tests)


def test_every_alert_is_tested_when_it_fires_and_when_it_does_not() -> None:
    tested = [case for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in tested if case.get("exp_alerts")}
    silent = {case["alertname"] for case in tested if not case.get("exp_alerts")}
    names = {alert["alert"] for alert in alerts()}
    assert fires == names
    assert silent == names - {"SpillwayCertificateExpires", "SpillwayCertificateExpiresSoon"}  # another series does not


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    used = set()
    for alert in alerts():
        page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbooks.md"
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] in {"page", "ticket"}
        used.add(anchor)
    assert used == anchors


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_of_a_dashboard_have_places_of_their_own(path: Path) -> None:
    board = json.loads(path.read_text())
    panels = board["panels"]
    assert board["uid"] == f"spillway-{path.stem}"
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_the_chosen_source_and_says_its_units(path: Path) -> None:
    board = json.loads(path.read_text())
    (source,) = board["templating"]["list"]
    provisioned = yaml.safe_load((MONITORING / "datasources.yaml").read_text())["datasources"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert {"text": source["current"]["text"], "value": source["current"]["value"]} in [
        {"text": each["name"], "value": each["uid"]} for each in provisioned
    ]
    chosen = {"type": "prometheus", "uid": f"${{{source['name']}}}"}
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == chosen, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        marks = [target["refId"] for target in panel["targets"]]
        assert len(set(marks)) == len(marks) > 0, panel["title"]
    for note in board["annotations"]["list"]:
        assert note["datasource"] == chosen


def test_there_is_a_dashboard_for_who_pays_and_one_for_each_service() -> None:
    services = {"orchestrator", "classifier", "cache", "executor", "ledger"}
    assert {path.stem for path in DASHBOARDS} == {"overview", *services}


@pytest.mark.slow
def test_queries_name_only_what_the_running_suite_shows(shown: dict[str, dict[str, Family]]) -> None:
    rows = table()
    labels: dict[str, set[str]] = {name: set(found) for name, found in OWN.items()}
    for names in shown.values():
        for name, family in names.items():
            labels.setdefault(name, set()).update(family.labels)
    for name in SELDOM:  # their names and labels are tested beside the suite's
        labels[name] = set(rows[name].labels)
    for name in [name for name in labels if name in rows and rows[name].kind == "histogram"]:
        for suffix in ("_bucket", "_count", "_sum"):
            labels[name + suffix] = labels[name] | {"le"}
        del labels[name]
    for rule in rules():
        if "record" in rule:
            labels[rule["record"]] = set()
    known = set().union(*labels.values()) | ADDED
    asked = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
    for path in DASHBOARDS:
        asked += [(f"{path.stem}: {title}", query) for title, query in queries(json.loads(path.read_text()))]
    named = set()
    for where, query in asked:
        found = list(selectors(query))
        assert found or query == "vector(0)", where
        for selector in found:
            assert selector.name in labels, f"{where}: nobody shows {selector.name}"
            assert selector.labels <= labels[selector.name], f"{where}: {selector.name} has no such labels"
            named.add(selector.name)
        assert grouped_by(query) <= known, where
    assert len(named) > 60  # the queries were read


@pytest.mark.slow
def test_a_real_prometheus_answers_every_query(
    watched: Watched, shown: dict[str, dict[str, Family]], tmp_path: Path
) -> None:
    targets = {f"spillway-{process}": listen for process, listen in watched.suite.scraped.items()}

    def scrapes() -> int:
        """How many there have been of the process with the fewest."""
        found = server.query("count_over_time(spillway_config_info[5m])")
        return min((int(series["value"][1]) for series in found), default=0) if len(found) == len(targets) else 0

    def firing() -> list[str]:
        return [rule["name"] for rule in server.rules() if rule.get("state") == "firing"]

    def silent() -> set[str]:
        """Panels with nothing in them; a scrape that came too late on a busy machine is made up for by the next."""
        return {
            f"{path.stem}: {title}"
            for path in DASHBOARDS
            for title, query in queries(json.loads(path.read_text()))
            if not server.query(query)
        }

    with PrometheusServer(tmp_path, targets, [RULES]) as server:
        wait_until(lambda: scrapes() >= 2, what="two scrapes of each")
        send(watched)
        seen = scrapes()
        wait_until(lambda: scrapes() >= seen + 3, what="three more of each")
        records = [rule["record"] for rule in rules() if "record" in rule]
        wait_until(lambda: all(server.query(record) for record in records), what="every record")
        wait_until(lambda: all(rule["health"] == "ok" for rule in server.rules()), what="rules were evaluated")
        assert firing() == []
        try:
            wait_until(lambda: silent() <= QUIET, what="every panel shows something")
        except AssertionError as error:
            raise AssertionError(f"{error}; silent: {sorted(silent() - QUIET)}") from None
