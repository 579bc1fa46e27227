# SPDX-License-Identifier: Apache-2.0
"""Alert rules and dashboards in deploy/: they ask for what is told, and for all of it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml
from click import Context, Group
from msgspec import json
from structlog.testing import capture_logs
from tests.coordinator.exposition.full import configured, fill
from tests.coordinator.exposition.reading import LABELS, Told, read

from fedmill_coordinator.cli import main
from fedmill_coordinator.counts import Counts
from fedmill_coordinator.exposition.collector import METRICS
from fedmill_coordinator.exposition.metric import Live
from fedmill_coordinator.exposition.report import Report
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.clock import SystemClock
from fedmill_shared.log import get_logger

DEPLOY = Path(__file__).parents[3] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "fedmill.rules.yml").read_text())
SCRAPE = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PAGES = {path.stem: json.decode(path.read_bytes()) for path in (DEPLOY / "grafana").rglob("*.json")}
NAME = re.compile(r"\bfedmill_[a-z_]+")
SELECTOR = re.compile(r"(fedmill_[a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'\s*([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on) \(([a-z_, ]+)\)")
PLAIN = ("none", "bool_on_off", "bool_yes_no", "percentunit")
Panel = tuple[str, dict[str, Any]]


def panels() -> list[Panel]:
    """Each panel with its page."""
    return [(name, panel) for name, page in PAGES.items() for panel in page["panels"]]


def queries() -> Iterator[tuple[str, str]]:
    """Whose each expression is, and the expression."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for page, panel in panels():
        for target in panel["targets"]:
            yield f"{page}: {panel['title']}", target["expr"]


QUERIES = list(queries())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What the listener of a coordinator says whose plant has everything."""
    config = configured(tmp_path_factory.mktemp("plant"))
    with SqlStore.in_file(config.database) as store:
        fill(store)
    counts = Counts()
    counts.add("updates", "rig", "refused", "forged")
    with capture_logs() as events:
        live = Live(1, connected=True, counts=counts)
        report = Report(config, lambda: live, SystemClock(), get_logger())
    assert [(event["event"], event["port"]) for event in events] == [
        ("metrics.listening", report.port)
    ]
    with report, urlopen(f"http://127.0.0.1:{report.port}/metrics", timeout=60) as page:
        return read(page.read().decode())


class TestExported:
    def test_each_metric_is(self, told: Told) -> None:
        """All that are declared, of a plant that has everything."""
        assert set(told) == {metric.name for metric in METRICS}

    @pytest.mark.parametrize(("place", "expression"), QUERIES)
    def test_what_is_asked_for_is_told(self, told: Told, place: str, expression: str) -> None:
        """A rule with a name that nobody tells never fires."""
        names = set(NAME.findall(expression)) or {"up"}
        assert names <= told.keys() | {"up"}, place

    @pytest.mark.parametrize(("place", "expression"), QUERIES)
    def test_labels_exist(self, told: Told, place: str, expression: str) -> None:
        """Those that are matched, with values that occur, and those that are grouped by."""
        for name, matchers in SELECTOR.findall(expression):
            for label, wanted in MATCHER.findall(matchers):
                assert label in LABELS[name], f"{place}: {name} has no {label}"
                at = LABELS[name].index(label)
                values = {labels[at] for labels in told[name]}
                if label not in ("agent", "job", "role"):
                    assert set(wanted.split("|")) <= values, place
        known = {label for name in NAME.findall(expression) for label in LABELS[name]}
        for labels in GROUPING.findall(expression):
            assert {label.strip() for label in labels.split(",")} <= known, place

    @pytest.mark.parametrize(("place", "expression"), QUERIES)
    def test_counters_are_asked_for_their_rate(self, place: str, expression: str) -> None:
        """What goes up since some restart says nothing by itself, except how many there were."""
        bare = re.sub(r"\b(?:rate|increase)\((fedmill_[a-z_]+)[^()]*\)", "", expression)
        left = {name for name in NAME.findall(bare) if name.endswith("_total")}
        assert left <= {"fedmill_rounds_total"}, place

    def test_nothing_is_told_that_nobody_looks_at(self) -> None:
        """Each metric is in a dashboard or in a rule."""
        asked = {name for _, expression in QUERIES for name in NAME.findall(expression)}
        assert {metric.name for metric in METRICS} == asked


class TestRules:
    @pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
    def test_tell_what_to_do(self, alert: dict[str, Any]) -> None:
        """A name, how bad it is, what has happened, and where to look."""
        assert re.fullmatch(r"Fedmill[A-Z][A-Za-z]+", alert["alert"])
        assert alert["labels"]["severity"] in ("info", "warning", "critical")
        assert set(alert["annotations"]) == {"summary", "description"}
        assert all(text.endswith((".", "?")) for text in alert["annotations"].values())

    @pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
    def test_name_labels_that_are_there(self, alert: dict[str, Any]) -> None:
        """A text with a hole in it helps nobody."""
        text = " ".join(alert["annotations"].values())
        known = {label for name in NAME.findall(alert["expr"]) for label in LABELS[name]}
        assert set(re.findall(r"\$labels\.([a-z_]+)", text)) <= known

    def test_each_once(self) -> None:
        """No two have the same name."""
        names = [alert["alert"] for alert in ALERTS]
        assert len(names) == len(set(names))

    @pytest.mark.parametrize(
        "name",
        [
            *("AgentOffline", "AgentSelfTestFailed", "AgentDenied", "AgentDiskLow", "DiskLow"),
            *("NoRound", "ReleaseAborted", "DriftAlarm", "ForgedUpdate", "CertificateExpiring"),
            *("MetadataExpired", "CoordinatorDown", "BrokerLost"),
        ],
    )
    def test_there_is_one_for(self, name: str) -> None:
        """What an operator must hear of."""
        assert f"Fedmill{name}" in {alert["alert"] for alert in ALERTS}

    def test_the_scrape_fits_them(self) -> None:
        """The label job is fedmill's own, and the name of the scrape what a rule expects."""
        (scrape,) = SCRAPE["scrape_configs"]
        assert scrape["honor_labels"] is True
        assert scrape["job_name"] == "fedmill"
        assert SCRAPE["rule_files"] == ["fedmill.rules.yml"]
        assert scrape["static_configs"][0]["targets"] == ["127.0.0.1:9464"]


class TestDashboards:
    def test_which_there_are(self) -> None:
        """One for each question."""
        assert set(PAGES) == {"fleet", "agent", "rounds", "security"}
        assert {page["uid"] for page in PAGES.values()} == {f"fedmill-{name}" for name in PAGES}

    @pytest.mark.parametrize(("page", "panel"), panels())
    def test_units_fit(self, page: str, panel: dict[str, Any]) -> None:
        """Bytes are shown as bytes, moments as moments, and ages as times."""
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            expression, name = target["expr"], NAME.findall(target["expr"])[0]
            if "rate(" in expression and "/" not in expression:
                assert unit == ("Bps" if "_bytes" in name else "cps")
            elif name.endswith("_timestamp_seconds"):
                age = "time()" in expression
                assert unit == ("s" if age else "dateTimeFromNow")
                assert age or expression.startswith("1000 * ")
            elif name.endswith("_seconds"):
                assert unit == "s"
            elif name.endswith("_bytes"):
                assert unit == "decbytes"
            else:
                assert unit in PLAIN

    @pytest.mark.parametrize(("page", "panel"), panels())
    def test_colours_are_chosen(self, page: str, panel: dict[str, Any]) -> None:
        """Grafana's own are red from 80 on: for every date, every size and a good many agents."""
        if panel["type"] in ("stat", "bargauge"):
            defaults = panel["fieldConfig"]["defaults"]
            assert (defaults["color"]["mode"] == "thresholds") is ("thresholds" in defaults)

    @pytest.mark.parametrize(("page", "panel"), panels())
    def test_names_are_shown_where_they_are_what_is_told(
        self, page: str, panel: dict[str, Any]
    ) -> None:
        """A panel with a single series shows its value alone: the state of a job would be 1."""
        told = any("{{" in target["legendFormat"] for target in panel["targets"])
        if panel["type"] == "stat" and told:
            assert "name" in panel["options"]["textMode"]

    @pytest.mark.parametrize(("page", "panel"), panels())
    def test_series_are_called_by_labels_that_are_there(
        self, page: str, panel: dict[str, Any]
    ) -> None:
        """A legend with a hole in it tells nobody what it is."""
        for target in panel["targets"]:
            known = {label for name in NAME.findall(target["expr"]) for label in LABELS[name]}
            assert set(re.findall(r"\{\{([a-z_]+)\}\}", target["legendFormat"])) <= known

    @pytest.mark.parametrize("name", PAGES)
    def test_panels_do_not_overlap(self, name: str) -> None:
        """Each has a place and a number of its own."""
        taken: set[tuple[int, int]] = set()
        for panel in PAGES[name]["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken
            assert all(x < 24 for x, _ in cells)
            taken |= cells
        numbers = [panel["id"] for panel in PAGES[name]["panels"]]
        assert len(numbers) == len(set(numbers))

    @pytest.mark.parametrize("name", PAGES)
    def test_choices_have_values(self, name: str, told: Told) -> None:
        """What a person chooses from is told by a metric, and each is used."""
        choices = [each for each in PAGES[name]["templating"]["list"] if each["type"] == "query"]
        text = json.encode(PAGES[name]["panels"]).decode()
        for choice in choices:
            metric, label = re.findall(r"label_values\((\w+), (\w+)\)", choice["definition"])[0]
            assert label in LABELS[metric]
            assert told[metric]
            assert f'{label}=\\"${choice["name"]}\\"' in text
        assert set(re.findall(r'"\$([a-z]+)\\"', text)) == {choice["name"] for choice in choices}


class TestRemedies:
    def test_commands_that_are_named_exist(self) -> None:
        """An alert at night sends nobody to a command that there is not."""
        text = (DEPLOY / "prometheus" / "fedmill.rules.yml").read_text()
        for name, verb in re.findall(r"`fedmill (\w+)(?: (\w+))?`", text):
            group = main.get_command(Context(main), name)
            assert group is not None, name
            if verb:
                assert isinstance(group, Group)
                assert verb in group.commands
