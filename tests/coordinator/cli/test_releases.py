# SPDX-License-Identifier: Apache-2.0
"""``fedmill models``: what agents are to serve, as tables, JSON, orders and a live view."""

import io
import re
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from msgspec import json, structs
from rich.console import Console
from tests.coordinator.cli.test_orders import stored

from fedmill_coordinator.cli import comparing, orders, watching
from fedmill_coordinator.cli.reported import agent_rows, release_row
from fedmill_coordinator.cli.watching import Snapshot, picture
from fedmill_coordinator.store.records import OrderRecord
from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.messages import InstallReport, JobPhase
from fedmill_shared.metrics.classification import of_classes
from fedmill_shared.metrics.regression import of_numbers

Run = Callable[..., Result]
REASON = "12 of 40 windows differ\x1b[31m"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No coordinator runs, and nobody waits for one."""
    monkeypatch.setattr(orders, "WAIT_SECONDS", 0.0)


def release(plant: SimpleNamespace, **fields: Any) -> ReleaseRecord:
    """Release 1 of version 2, with one ring of two open."""
    defaults = {
        "job": "tiny",
        "release": 1,
        "version": plant.versions[2],
        "before": plant.versions[1],
        "why": "promoted",
        "by": "anna",
        "rings": ["canary", "fleet"],
        "newest": 2,
        "created_ns": 10**18,
    }
    return ReleaseRecord(**{**defaults, **fields})


def install(agent: str, state: str = "asked", **fields: Any) -> InstallRecord:
    """How far an agent is with it."""
    defaults = {"job": "tiny", "release": 1, "ring": 1, "asked_ns": 10**18, "heard_ns": 10**18}
    return InstallRecord(**{**defaults, "agent": agent, "state": state, **fields})


def serves(store: SqlStore, agent: str, version: str) -> None:
    """An agent says which version it scores with."""
    known = store.agent(agent)
    assert known is not None
    told = InstallReport(version=version, state="committed", serving=version)
    phase = JobPhase(phase="joined", version=version, install=told)
    jobs = json.encode({"tiny": phase}).decode()
    store.save_agent(structs.replace(known, jobs=jobs))


@pytest.fixture
def rolling(plant: SimpleNamespace) -> SimpleNamespace:
    """One agent has refused version 2, the other was not asked and serves version 1."""
    with SqlStore.in_file(plant.database) as store:
        store.add_release(release(plant))
        refused = install(
            "press-1", "rejected", gate="shadow", reason=REASON, evidence='{"agreement":0.7}'
        )
        store.save_release(release(plant, opened=1, canary="press-1"), [refused])
        for agent in ("press-1", "press-2"):
            serves(store, agent, plant.versions[1])
    return plant


class TestShow:
    def test_desired_beside_reported(self, run: Run, rolling: SimpleNamespace) -> None:
        """Each agent with what it is to serve, what it does, and why not."""
        first, second = json.decode(run("models", "show", rolling.config, "--json").stdout)
        assert (first["agent"], first["state"], first["gate"]) == ("press-1", "rejected", "shadow")
        assert (first["desired_number"], first["serving_number"]) == (2, 1)
        assert first["evidence"] == {"agreement": 0.7}
        assert (second["agent"], second["state"], second["ring"]) == ("press-2", "not asked", None)
        assert (second["desired_number"], second["serving_number"]) == (1, 1)

    def test_of_agents_that_are_away_or_new(self, run: Run, rolling: SimpleNamespace) -> None:
        """Whoever is not there is told as such; who never said anything is listed too."""
        with SqlStore.in_file(rolling.database) as store:
            known = store.agent("press-1")
            assert known is not None
            now = time.time_ns()
            away = structs.replace(known, online=False, last_seen_ns=now)
            jobs = json.encode({"tiny": JobPhase(phase="joined")}).decode()
            new = structs.replace(known, agent="press-9", jobs=jobs, online=True, last_seen_ns=now)
            refuses = json.encode({"tiny": JobPhase(phase="refused")}).decode()
            for record in (away, new, structs.replace(new, agent="press-x", jobs=refuses)):
                store.save_agent(record)
        rows = json.decode(run("models", "show", rolling.config, "--json").stdout)
        told = {row["agent"]: (row["there"], row["state"], row["serving"]) for row in rows}
        assert told["press-1"] == ("offline", "rejected", rolling.versions[1])
        assert told["press-9"] == ("online", "not asked", "")
        assert told.keys() == {"press-1", "press-2", "press-9"}

    def test_where_each_version_is_served_again(self, run: Run, rolling: SimpleNamespace) -> None:
        """The job went on after a release by hand: the newest version is what is to be served."""
        with SqlStore.in_file(rolling.database) as store:
            back = release(rolling, release=2, version=rolling.versions[0], newest=1)
            store.add_release(back)
            store.save_release(structs.replace(back, state="superseded", ended_ns=10**18))
        rows = json.decode(run("models", "show", rolling.config, "--json").stdout)
        assert {row["desired_number"] for row in rows} == {2}

    def test_one_that_the_job_has_outlived(self, run: Run, rolling: SimpleNamespace) -> None:
        """It was done, and then each version was served again as it came."""
        with SqlStore.in_file(rolling.database) as store:
            back = release(rolling, release=2, version=rolling.versions[0], newest=1)
            store.add_release(back)
            store.save_release(structs.replace(back, state="done", ended_ns=10**18))
        rows = json.decode(run("models", "show", rolling.config, "--json").stdout)
        assert {row["desired_number"] for row in rows} == {2}

    def test_an_earlier_one(self, run: Run, rolling: SimpleNamespace) -> None:
        """What agents said of it, beside what they are to serve now."""
        with SqlStore.in_file(rolling.database) as store:
            first = release(rolling, state="done", opened=2, ended_ns=10**18)
            store.save_release(first)
            later = release(rolling, release=2, version=rolling.versions[0])
            store.add_release(later)
            store.save_release(structs.replace(later, state="done", opened=2, ended_ns=10**18))
        shown = run("models", "show", rolling.config, "--json", "--release", "1")
        rows = json.decode(shown.stdout)
        assert {(row["release"], row["desired_number"]) for row in rows} == {(1, 0)}
        assert [row["state"] for row in rows] == ["rejected", "not asked"]

    def test_as_a_table(self, run: Run, rolling: SimpleNamespace) -> None:
        """The rings in the title, the open one in brackets; no agent steers the terminal."""
        output = run("models", "show", rolling.config).output
        assert "release 1 of version 2: open, promoted by anna; [canary] -> fleet" in output
        assert "12 of 40 windows differ" in output
        assert "agreement 0.7000" in output
        assert "\x1b" not in output

    def test_what_an_agent_said_steers_no_terminal(
        self, run: Run, rolling: SimpleNamespace
    ) -> None:
        """Neither below the table nor where an error names it."""
        with SqlStore.in_file(rolling.database) as store:
            reason = f"1 of 1 agents could not use it; press-1: rejected, shadow: {REASON}"
            ended = release(rolling, state="aborted", ended_ns=10**18 + 1, reason=reason)
            store.save_release(structs.replace(ended, opened=1))
        for command in ("show", "watch"):
            output = run("models", command, rolling.config).output
            assert "\\x1b[31m" in output
            assert "\x1b" not in output

    @pytest.mark.parametrize("number", [2, 9])
    def test_the_way_back_from_one_that_was_aborted(
        self, run: Run, rolling: SimpleNamespace, number: int
    ) -> None:
        """Why there is one stands below it, and nobody takes its own state for "aborted"."""
        with SqlStore.in_file(rolling.database) as store:
            ended = release(rolling, state="aborted", ended_ns=10**18 + 1, reason="1 of 1 agents")
            store.save_release(structs.replace(ended, opened=1))
            back = release(rolling, release=number, version=rolling.versions[1], by="")
            back = structs.replace(back, why="aborted")
            store.add_release(structs.replace(back, before=None, rings=["fleet"]))
        output = run("models", "show", rolling.config).output
        assert f"release {number} of version 1: open, back after an abort; fleet" in output
        assert output.endswith("open: release 1 was aborted: 1 of 1 agents\n")

    def test_before_the_first(self, run: Run, plant: SimpleNamespace) -> None:
        """There is nothing to show, and that is no error."""
        result = run("models", "show", plant.config)
        assert (result.exit_code, result.output) == (0, "tiny: no release yet: none yet\n")
        assert run("models", "show", plant.config, "--json").stdout == "[]\n"

    def test_where_each_version_is_served(self, run: Run, plant: SimpleNamespace) -> None:
        """Without a release agents are to serve the newest version, and say how far they are."""
        with SqlStore.in_file(plant.database) as store:
            serves(store, "press-1", plant.versions[1])
        [row] = json.decode(run("models", "show", plant.config, "--json").stdout)
        assert (row["desired_number"], row["serving_number"]) == (2, 1)
        assert (row["state"], row["release"]) == ("committed", None)

    def test_one_that_is_not_there(self, run: Run, rolling: SimpleNamespace) -> None:
        """The error names the newest."""
        result = run("models", "show", rolling.config, "--release", 7)
        assert result.exit_code == 2
        assert "job tiny has no such release (the newest is 1)" in result.stderr

    def test_in_other_listings(self, run: Run, rolling: SimpleNamespace) -> None:
        """Versions name their release, agents what they score with."""
        listed = json.decode(run("models", rolling.config, "--json").stdout)
        assert [row["release"] for row in listed] == ["", "", "1 open"]
        assert "canary" in listed[2]["alias"]
        told = json.decode(run("fleet", rolling.config, "--json").stdout)
        assert [row["jobs"][0]["serving_number"] for row in told] == [1, 1]
        assert "scores with" not in run("fleet", rolling.config).output
        with SqlStore.in_file(rolling.database) as store:
            known = store.agent("press-1")
            assert known is not None
            other = known.jobs.replace(
                f'"version":"{rolling.versions[1]}","windows"',
                f'"version":"{rolling.versions[2]}","windows"',
            )
            store.save_agent(structs.replace(known, jobs=other))
        assert "scores with" in " ".join(run("fleet", rolling.config).output.split())


class TestOrders:
    @pytest.mark.parametrize(
        ("words", "verb", "argument"),
        [
            (["promote"], "promote", {"version": 2, "ring": ""}),
            (["promote", "--version", "1"], "promote", {"version": 1, "ring": ""}),
            (["promote", "--force"], "promote", {"version": 2, "ring": "", "force": True}),
            (
                ["promote", "--ring", "fleet", "--force"],
                "promote",
                {"version": 2, "ring": "fleet", "force": True},
            ),
            (["rollback"], "rollback", {"version": None, "ring": ""}),
            (["rollback", "--version", "stable"], "rollback", {"version": 1, "ring": ""}),
            (["pause"], "pause_rollout", None),
            (["resume"], "resume_rollout", None),
        ],
    )
    @pytest.mark.usefixtures("alone")
    def test_what_is_ordered(
        self,
        run: Run,
        plant: SimpleNamespace,
        words: list[str],
        verb: str,
        argument: dict[str, Any] | None,
    ) -> None:
        """The version that is meant now, whatever its alias points at when it is carried out."""
        command, *options = words
        result = run("models", command, plant.config, *options)
        assert "no coordinator took it in" in result.stderr
        order = stored(plant)
        assert order.verb == verb
        if argument is None:
            assert order.argument == ""
            return
        number = argument["version"]
        version = plant.versions[number] if number is not None else ""
        assert json.decode(order.argument) == {**argument, "version": version}

    @pytest.mark.usefixtures("alone")
    def test_is_told_in_whole_words(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Which order of which job it is, and what it was to do."""
        told = run("models", "pause", plant.config).stderr
        assert "job tiny: order 1 to hold its release waits" in told

        def refused(store: SqlStore, number: int) -> OrderRecord:
            store.finish_order(number, done_ns=10**18, outcome="refused: nothing was served before")
            found = store.order(number)
            assert found is not None
            return found

        monkeypatch.setattr(orders, "_awaited", refused)
        told = run("models", "rollback", plant.config).stderr
        assert "job tiny: the coordinator refuses to roll back: nothing was served before" in told

    def test_rings_are_skipped_only_on_purpose(self, run: Run, plant: SimpleNamespace) -> None:
        """It takes a second word."""
        result = run("models", "promote", plant.config, "--ring", "fleet")
        assert result.exit_code == 2
        assert "--ring fleet --force" in result.stderr
        with SqlStore.in_file(plant.database) as store:
            assert store.open_orders() == []

    def test_a_version_that_is_not_there(self, run: Run, plant: SimpleNamespace) -> None:
        """Is told at once, without the coordinator."""
        result = run("models", "promote", plant.config, "--version", "77")
        assert result.exit_code == 2
        assert "no versions have that name" in result.stderr

    @pytest.mark.parametrize("command", ["promote", "rollback"])
    def test_a_version_without_a_name(self, run: Run, plant: SimpleNamespace, command: str) -> None:
        """A script whose variable is empty does not get what stands there where nothing is said."""
        result = run("models", command, plant.config, "--version", "")
        assert result.exit_code == 2
        assert "version '' of job tiny: no versions have that name" in result.stderr


class TestDiff:
    def test_two_versions(self, run: Run, plant: SimpleNamespace) -> None:
        """Role by role and tensor by tensor, as NumPy says it; and what agents found."""
        add_manifest(plant)
        result = run("models", "diff", plant.config, "1", "2", "--json")
        told = json.decode(result.stdout)
        assert (told["a"]["number"], told["b"]["number"]) == (1, 2)
        a, b = (plant.made[number].vector.astype(float) for number in (1, 2))
        assert sum(row["change"] ** 2 for row in told["tensors"]) == pytest.approx(
            float(((b - a) ** 2).sum())
        )
        assert sum(row["norm"] ** 2 for row in told["roles"]) == pytest.approx(float((a**2).sum()))
        assert sum(row["elements"] for row in told["tensors"]) == a.size
        assert max(row["largest"] for row in told["roles"]) == pytest.approx(np.abs(b - a).max())
        assert {row["agent"]: row["a"] for row in told["evaluations"]} == {
            "press-1": 7 / 8,
            "all agents": 7 / 8,
        }
        assert (told["fields"], told["unlike"], told["same_standardisation"]) == ({}, [], True)

    def test_as_tables(self, run: Run, plant: SimpleNamespace) -> None:
        """Roles first, then tensors, evaluations and what they are fed with."""
        add_manifest(plant)
        output = run("models", "diff", plant.config, "stable", "candidate").output
        places = [
            output.index(words)
            for words in ("weights by role", "by tensor", "evaluations", "are the same")
        ]
        assert places == sorted(places)

    def test_tasks_that_are_judged_by_different_metrics(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both metrics are named: the numbers beside each other are not of the same kind."""
        add_manifest(plant)
        numbers = of_numbers(np.ones(2), np.zeros(2))
        told = iter([{"press-1": of_classes(np.eye(2), np.arange(2))}, {"press-1": numbers}])
        monkeypatch.setattr(comparing, "statistics_of", lambda *_: next(told))
        [first, _] = json.decode(run("models", "diff", plant.config, "1", "2", "--json").stdout)[
            "evaluations"
        ]
        assert (first["metric"], first["a"], first["b"]) == ("accuracy -> rmse", 1.0, 1.0)

    def test_one_that_was_forgotten(self, run: Run, plant: SimpleNamespace) -> None:
        """Its weights are no longer there to be compared."""
        add_manifest(plant)
        result = run("models", "diff", plant.config, "0", "1")
        assert result.exit_code != 0
        assert "weights are no longer kept" in result.stderr

    def test_of_two_jobs(self, run: Run, two_jobs: SimpleNamespace) -> None:
        """JOB:VERSION names another one; without versions that is an error with its name."""
        result = run("models", "diff", two_jobs.config, "tiny:1", "second:1")
        assert result.exit_code == 2
        assert "job second" in result.stderr
        result = run("models", "diff", two_jobs.config, "tiny:1", "third:1")
        assert result.exit_code == 2
        assert "the job of 'third:1' is 'third' (jobs: " in result.stderr


def add_manifest(plant: SimpleNamespace) -> None:
    """The layout of the job's vector."""
    from tests.coordinator.cli.conftest import NORMALISER

    from fedmill_coordinator.registry.versions import Architecture
    from fedmill_shared.job_check import job_from_canonical

    with SqlStore.in_file(plant.database) as store:
        record = store.job("tiny")
        assert record is not None
        job = job_from_canonical(record.text.encode())
        manifest = Architecture.restore(job, NORMALISER, b"", b"").manifest_blob
        store.update_job("tiny", updated_ns=1, manifest=manifest)


class TestWatch:
    def test_until_it_is_done(
        self, run: Run, rolling: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An event for each agent that moves, and the outcome at the end."""

        def moves(_seconds: float) -> None:
            with SqlStore.in_file(rolling.database) as store:
                done = release(rolling, state="done", opened=2, ended_ns=10**18 + 1)
                store.save_release(done, [install("press-2", "committed", ring=2)])

        monkeypatch.setattr(watching.time, "sleep", moves)
        result = run("models", "watch", rolling.config)
        assert result.exit_code == 0
        assert result.stdout == (
            "release 1 of version 2: done, promoted by anna; canary -> [fleet]\n"
        )
        told = re.findall(r"event=release\.(\S+)(?: agent=(\S+))?.* state=\W?(\w+)", result.stderr)
        assert told == [
            ("progress", "", "open"),
            ("agent", "press-1", "rejected"),
            ("agent", "press-2", "not"),
            ("progress", "", "done"),
            ("agent", "press-2", "committed"),
        ]

    def test_one_that_was_aborted(self, run: Run, rolling: SimpleNamespace) -> None:
        """Is an error, so that a script notices; with the reason."""
        with SqlStore.in_file(rolling.database) as store:
            ended = release(rolling, state="aborted", ended_ns=10**18 + 1, reason="1 of 1 agents")
            store.save_release(structs.replace(ended, opened=1))
        result = run("models", "watch", rolling.config)
        assert result.exit_code == 1
        assert "aborted" in result.stderr
        assert "1 of 1 agents" in result.stderr

    def test_the_way_back_is_another_one(
        self, run: Run, rolling: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That the fleet is back where it was does not make a success of what was promoted."""

        def given_up(_seconds: float) -> None:
            with SqlStore.in_file(rolling.database) as store:
                ended = release(
                    rolling, state="aborted", ended_ns=10**18 + 1, reason="1 of 1 agents"
                )
                store.save_release(structs.replace(ended, opened=1))
                back = release(rolling, release=2, version=rolling.versions[1], why="aborted")
                store.add_release(structs.replace(back, before=None, rings=["fleet"]))

        monkeypatch.setattr(watching.time, "sleep", given_up)
        result = run("models", "watch", rolling.config)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "release 1 of version 2: aborted" in result.stderr

    def test_nothing_to_watch(self, run: Run, plant: SimpleNamespace) -> None:
        """The error says how to begin."""
        result = run("models", "watch", plant.config)
        assert result.exit_code == 2
        assert "fedmill models promote" in result.stderr

    def test_ctrl_c(
        self, run: Run, rolling: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ends the watching, and no script takes that for a release that is done."""

        def interrupted(_seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(watching.time, "sleep", interrupted)
        result = run("models", "watch", rolling.config)
        assert (result.exit_code, result.stdout) == (130, "")
        assert "the release goes on" in result.stderr

    def test_the_live_view(self, rolling: SimpleNamespace) -> None:
        """Those that failed come first; what agents say steers no terminal."""
        with SqlStore.in_file(rolling.database) as store:
            [found] = store.releases("tiny")
            snapshot = Snapshot(release_row(store, found), agent_rows(store, "tiny", found))
        file = io.StringIO()
        Console(file=file, width=100).print(picture(snapshot))
        lines = file.getvalue().splitlines()
        assert "[canary] -> fleet" in lines[0]
        assert lines[1].startswith("1 asked, 0 committed, 1 failed, 0 waited for")
        assert lines[3].startswith("press-1")
        assert "\x1b" not in file.getvalue()
