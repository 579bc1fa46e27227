# SPDX-License-Identifier: Apache-2.0
"""Tables for people and JSON for programs: fleet, jobs, rounds and models."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result
from msgspec import json, structs

from fedmill_coordinator.store.records import TrafficRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.messages import JobPhase

Run = Callable[..., Result]


def rows(result: Result) -> list[dict[str, object]]:
    """The rows of a JSON listing: one line, nothing else."""
    assert result.exit_code == 0, result.output
    assert result.output.count("\n") == 1
    return json.decode(result.output, type=list[dict[str, object]])


def table(output: str, title: str) -> list[str]:
    """The lines of the table under a title: heading, rule and rows."""
    lines = output.splitlines()
    start = lines.index(title) + 1
    return list(takewhile(lambda line: line.strip(), lines[start:]))


JUDGED = json.encode(
    {
        "loss": 0.25,
        "report": {
            "verdicts": {
                "press-1": {
                    "trust": 0.0,
                    "statistic": "points away from the others (cosine -0.83)",
                    "factor": 0.36,
                },
                "press-2": {"trust": 1.0, "statistic": "fits the others (cosine 0.60)"},
            }
        },
        "quarantine": [
            {
                "agent": "press-1",
                "since_round": 2,
                "reason": "check the labels",
                "rounds_left": 15,
            }
        ],
    }
).decode()


def execute(database: Path, statement: str, *values: str) -> None:
    """Change the file behind everybody's back."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(statement, values)
        connection.commit()


class TestFleet:
    """``fedmill fleet``."""

    def test_json(self, run: Run, plant: SimpleNamespace) -> None:
        """Every agent with what it last said."""
        first, second = rows(run("fleet", plant.config, "--json"))
        assert 0 <= first.pop("last_seen_s") <= 5
        assert first == {
            "agent": "press-1",
            "state": "online",
            "jobs": [
                {
                    "job": "tiny",
                    "phase": "joined",
                    "version": plant.versions[2],
                    "number": 2,
                    "windows": {"train": 9, "test": 8},
                    "windows_scored": 1234,
                    "windows_bad": 5,
                    "faults": {},
                    "ineligible": "",
                    "quarantined": "",
                    "wish": None,
                    "served": "",
                    "serving": plant.versions[2],
                    "serving_number": 2,
                    "install": "",
                    "candidates": {},
                    "metric": "accuracy",
                    "value": 0.875,
                    "metric_windows": 8,
                    "metric_version": plant.versions[1],
                    "metric_number": 1,
                    "uplink_bytes": 1_900_000,
                    "downlink_bytes": 42,
                }
            ],
            "model": plant.versions[1],
            "windows_scored": 1234,
            "uplink_bytes": 1_900_000,
            "downlink_bytes": 42,
            "memory_MiB": 50.0,
            "clock_skew_ms": -1.5,
            "software": "0.1.0",
            "labels": {},
            "detail": "",
            "last_refusal": "",
        }
        assert (second["state"], second["model"]) == ("offline", "")
        [stand] = second["jobs"]
        assert (stand["phase"], stand["metric"], stand["value"]) == ("refused", "", None)
        assert second["last_refusal"] == "press-2: no signal force ([sources] \x1b[31m)"

    def test_table(self, run: Run, plant: SimpleNamespace) -> None:
        """What an agent wrote is shown as it is: no mark-up, no colours of its choice."""
        output = run("fleet", plant.config).output
        assert "press-1" in output
        assert "no signal force ([sources] " in output
        assert "\x1b" not in output

    def test_the_metric_of_each_agent(self, run: Run, plant: SimpleNamespace) -> None:
        """Beside the model that it has: the value, and the model that value is of."""
        head, _, first, second, *_ = table(run("fleet", plant.config).output, "fleet of tiny")
        assert re.search(r"phase +model +accuracy +of model +windows scored", head)
        assert first.split()[5:8] == ["2", "0.8750", "1"]
        assert first.split()[8:13] == ["1234", "5", "1.90", "0.00", "50.0"]
        assert second.split()[-6:] == ["1234", "5", "0.00", "0.00", "50.0", "0.1.0"]

    def test_bytes_of_each_agent(self, run: Run, two_jobs: SimpleNamespace) -> None:
        """Job by job where there are several, and in sum; over all rounds."""
        with SqlStore.in_file(two_jobs.database) as store:
            known = store.agent("press-1")
            assert known is not None
            phases = {"tiny": JobPhase(phase="joined"), "second": JobPhase(phase="waiting")}
            store.save_agent(structs.replace(known, jobs=json.encode(phases).decode()))
            count = TrafficRecord(
                job="second", round=1, agent="press-1", uplink_bytes=100_000, downlink_bytes=8
            )
            store.save_traffic("second", 1, [count])
        first, second = rows(run("fleet", two_jobs.config, "--json"))
        stand = [(s["job"], s["uplink_bytes"], s["downlink_bytes"]) for s in first["jobs"]]
        assert stand == [("second", 100_000, 8), ("tiny", 1_900_000, 42)]
        assert (first["uplink_bytes"], first["downlink_bytes"]) == (2_000_000, 50)
        assert (second["uplink_bytes"], second["downlink_bytes"]) == (0, 0)
        output = run("fleet", two_jobs.config).output
        for title, amount in (("fleet of second", "0.10"), ("fleet of tiny", "1.90")):
            head, _, line, *_ = table(output, title)
            assert ("up MB" in head, "down MB" in head, amount in line.split()) == (True,) * 3

    def test_several_jobs(self, run: Run, two_jobs: SimpleNamespace) -> None:
        """Each has a table of its own, and those without a job have one."""
        with SqlStore.in_file(two_jobs.config.parent / "state" / "fedmill.sqlite") as store:
            known = store.agent("press-1")
            assert known is not None
            phases = {"tiny": JobPhase(phase="joined"), "second": JobPhase(phase="waiting")}
            store.save_agent(structs.replace(known, jobs=json.encode(phases).decode()))
            store.save_agent(structs.replace(known, agent="spare", jobs="{}"))
        output = run("fleet", two_jobs.config).output
        agents = {
            title: [line.split()[0] for line in table(output, title)[2:]]
            for title in ("fleet of second", "fleet of tiny", "agents without a job")
        }
        assert list(agents.values()) == [["press-1"], ["press-1", "press-2"], ["spare"]]
        assert "accuracy" not in "".join(table(output, "fleet of second"))

    def test_why_an_agent_does_not_train(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Below the table, in as many lines as it takes; for programs, job by job."""
        reason = "outside the shifts " + ", ".join(["mon-fri 22:00-06:00"] * 5)
        with SqlStore.in_file(plant.database) as store:
            known = store.agent("press-1")
            assert known is not None
            phases = {"tiny": JobPhase(phase="joined", ineligible=reason)}
            changes = {
                "jobs": json.encode(phases).decode(),
                "labels": '{"line":"A","tags":["press"]}',
                "detail": f"tiny: {reason}",
            }
            store.save_agent(structs.replace(known, **changes))
        first, second = rows(run("fleet", plant.config, "--json"))
        assert first["labels"] == {"line": "A", "tags": ["press"]}
        assert (first["detail"], second["detail"]) == (f"tiny: {reason}", "")
        assert [stand["ineligible"] for stand in first["jobs"]] == [reason]
        monkeypatch.setenv("COLUMNS", "60")
        lines = table(run("fleet", plant.config).output, "not training now")
        assert lines[0].split() == ["agent", "reason"]
        assert lines[2].startswith("press-1 ")
        told = " ".join(" ".join(lines[2:]).split()).removeprefix("press-1 ")
        assert (told, len(lines) > 3) == (f"tiny: {reason}", True)

    def test_when_all_train(self, run: Run, plant: SimpleNamespace) -> None:
        """There is no list of those that do not."""
        assert "not training now" not in run("fleet", plant.config).output

    def test_a_job_of_somebody_else(self, run: Run, plant: SimpleNamespace) -> None:
        """A version that this coordinator did not make has no number here."""
        with SqlStore.in_file(plant.config.parent / "state" / "fedmill.sqlite") as store:
            known = store.agent("press-1")
            assert known is not None
            phases = {"foreign": JobPhase(phase="joined", version="ab" * 32)}
            store.save_agent(structs.replace(known, jobs=json.encode(phases).decode()))
        lines = table(run("fleet", plant.config).output, "fleet of foreign")
        assert "ab" * 6 in lines[2].split()


class TestJobs:
    """``fedmill jobs``."""

    def test_json(self, run: Run, two_jobs: SimpleNamespace) -> None:
        """How far each is, and how good."""
        second, tiny = rows(run("jobs", two_jobs.config, "--json"))
        assert tiny.pop("since")
        assert tiny == {
            "job": "tiny",
            "state": "running",
            "paused": False,
            "rounds_closed": 1,
            "rounds": 9,
            "versions": 3,
            "metric": "accuracy",
            "value": 0.875,
            "orders": [],
        }
        assert (second["job"], second["metric"], second["value"]) == ("second", "", None)

    def test_rounds_that_agents_wished_for(self, run: Run, plant: SimpleNamespace) -> None:
        """They come on top of those of the job file."""
        with SqlStore.in_file(plant.config.parent / "state" / "fedmill.sqlite") as store:
            store.update_job("tiny", updated_ns=1, further_rounds=3)
        [tiny] = rows(run("jobs", plant.config, "--json"))
        assert tiny["rounds"] == 12

    def test_table(self, run: Run, plant: SimpleNamespace) -> None:
        """One line for the job under the names of the columns."""
        output = run("jobs", plant.config).output
        assert "rounds closed" in output
        assert "0.875" in output
        assert "paused" not in output
        assert run("jobs", "list", plant.config).output == output

    def test_a_paused_job(self, run: Run, plant: SimpleNamespace) -> None:
        """It says so beside how far it is."""
        with SqlStore.in_file(plant.database) as store:
            store.update_job("tiny", updated_ns=9, paused=True)
        assert "running, paused" in run("jobs", plant.config).output
        assert rows(run("jobs", plant.config, "--json"))[0]["paused"] is True

    def test_open_orders(self, run: Run, two_jobs: SimpleNamespace) -> None:
        """Those that no coordinator has taken, with their job, the oldest first."""
        with SqlStore.in_file(two_jobs.database) as store:
            numbers = [store.give_order("tiny", verb, "anna", 9) for verb in ("close", "pause")]
            done = store.give_order("second", "pause", "anna", 9)
            store.finish_order(done, done_ns=10, outcome="the job is paused")
        second, tiny = rows(run("jobs", two_jobs.config, "--json"))
        assert second["orders"] == []
        given = {"by": "anna", "given": "1970-01-01 00:00:00"}
        assert tiny["orders"] == [
            {"id": number, "verb": verb, **given}
            for number, verb in zip(numbers, ("close", "pause"), strict=True)
        ]
        head, _, _, row = table(run("jobs", two_jobs.config).output, "jobs")
        assert "open orders" in head
        assert "close, pause" in row

    def test_nothing_is_ordered(self, run: Run, plant: SimpleNamespace) -> None:
        """Then the column is not there."""
        assert "open orders" not in run("jobs", plant.config).output


class TestRounds:
    """``fedmill rounds``."""

    def test_json(self, run: Run, plant: SimpleNamespace) -> None:
        """Closed, abandoned and open ones, with what was used, late and refused."""
        listed = rows(run("rounds", plant.config, "--json"))
        assert [row["state"] for row in listed] == ["closed", "abandoned", "open"]
        first = listed[0]
        assert first.pop("opened")
        assert first == {
            "round": 1,
            "seconds": 0.5,
            "state": "closed",
            "included": 1,
            "quarantined": 0,
            "late": 1,
            "refused": 1,
            "loss": 0.25,
            "metric": "accuracy",
            "value": 0.875,
            "uplink_codec": "int8",
            "uplink_bytes": 1_500_000,
            "downlink_bytes": 20,
            "published_bytes": 15,
            "version": plant.versions[1],
        }
        assert [row["refused"] for row in listed] == [1, 0, 0]
        assert rows(run("rounds", "list", plant.config, "--json"))[1:] == listed[1:]

    def test_counts_of_the_open_round(self, run: Run, plant: SimpleNamespace) -> None:
        """What has been refused and was too late so far."""
        with SqlStore.in_file(plant.database) as store:
            [pattern] = store.recent_updates("tiny", 1)[:1]
            changes = {"round": 3, "agent": "press-3", "state": "late", "included_in": None}
            store.add_update(structs.replace(pattern, **changes))
            [*_, opened] = store.rounds("tiny")
            [refusal] = [r for r in store.refusals() if r.reason == "update"]
            for moment in (-1, 0, 1):
                at = opened.opened_ns + moment
                reason = "update:norm" if moment else "update"
                store.add_refusal(structs.replace(refusal, received_ns=at, reason=reason))
        [*_, last] = rows(run("rounds", plant.config, "--json"))
        assert (last["included"], last["late"], last["refused"]) == (0, 1, 2)

    def test_counts_of_an_abandoned_round(self, run: Run, plant: SimpleNamespace) -> None:
        """Its updates are too late for ever."""
        with SqlStore.in_file(plant.database) as store:
            [pattern] = store.recent_updates("tiny", 1)[:1]
            for agent in ("press-3", "press-4"):
                changes = {"round": 3, "agent": agent, "state": "received", "included_in": None}
                store.add_update(structs.replace(pattern, **changes))
            end = store.rounds("tiny")[-1].opened_ns + 9
            store.abandon_round("tiny", 3, closed_ns=end, report="{}")
        [*_, last] = rows(run("rounds", plant.config, "--json"))
        assert (last["included"], last["late"], last["refused"]) == (0, 2, 0)

    def test_table(self, run: Run, plant: SimpleNamespace) -> None:
        """Bytes in kilobytes, versions by the start of their name."""
        head, _, first, second, _ = table(run("rounds", plant.config).output, "rounds of tiny")
        assert {"up kB", "down kB", "accuracy"} <= set(re.split(r"  +", head.strip()))
        assert first.split()[-4:] == ["int8", "1500", "0.0", plant.versions[1][:12]]
        assert first.split()[-6:-4] == ["0.2500", "0.8750"]
        assert "abandoned" in second

    def test_rounds_from_before_codecs_were_kept(self, run: Run, plant: SimpleNamespace) -> None:
        """Where no round says its codec, there is no column for it."""
        assert "codec" in run("rounds", plant.config).output
        execute(plant.database, "UPDATE rounds SET uplink = ''")
        assert "codec" not in run("rounds", plant.config).output

    def test_what_people_read_at_80_columns(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Everything but the time of day and the version's name, which the last line says."""
        monkeypatch.setenv("COLUMNS", "80")
        output = run("rounds", plant.config).output
        assert max(map(len, output.splitlines())) <= 80
        assert output.splitlines()[-1] == "no room for: codec, opened (UTC), version (see --json)"
        for word in ("included", "late", "refused", "loss", "accuracy", "0.8750", "1500"):
            assert word in output

    def test_a_changing_codec_at_80_columns(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rounds of a schedule show which codec each had; the seconds make room for it."""
        execute(plant.database, "UPDATE rounds SET uplink = 'eden-1' WHERE round = 1")
        monkeypatch.setenv("COLUMNS", "80")
        output = run("rounds", plant.config).output
        assert max(map(len, output.splitlines())) <= 80
        assert re.search(r"closed .* eden-1 ", output)
        assert output.splitlines()[-1].startswith("no room for: opened (UTC), ")

    def test_agents_of_a_round(self, run: Run, plant: SimpleNamespace) -> None:
        """What came of each update, and the bytes both ways; those that sent none as well."""
        listed = rows(run("rounds", plant.config, "--round", 1, "--json"))
        unknown = {"examples": None, "loss": None, "norm": None, "frame_bytes": None}
        known = {"examples": 8, "loss": 0.5, "frame_bytes": 1_250_000}
        judged = dict.fromkeys(("trust", "agreement", "factor")) | {
            "finding": "",
            "quarantined": "",
            "key": "",
        }
        unknown, known = unknown | judged, known | judged
        assert listed == [
            {"agent": "press-1", "update": "included", "included_in": 1, **known, "norm": 0.75}
            | {"uplink_bytes": 1_400_000, "downlink_bytes": 12},
            {"agent": "press-2", "update": "late", "included_in": None, **known, "norm": None}
            | {"uplink_bytes": None, "downlink_bytes": None},
            {"agent": "press-3", "update": "", "included_in": None, **unknown}
            | {"uplink_bytes": 100_000, "downlink_bytes": 8},
        ]

    def test_what_a_round_found_about_its_agents(self, run: Run, plant: SimpleNamespace) -> None:
        """Whose update stood apart or was shortened; nothing of those that are like the others.

        And nothing of an update that no round used: what was found is another one's.
        """
        execute(plant.database, "UPDATE rounds SET report = ? WHERE round = 1", JUDGED)
        _, late, *_ = rows(run("rounds", plant.config, "--round", 1, "--json"))
        assert (late["agent"], late["trust"], late["finding"]) == ("press-2", None, "")
        execute(plant.database, "UPDATE updates SET included_in = 1 WHERE round = 1")
        first, second, third = rows(run("rounds", plant.config, "--round", 1, "--json"))
        assert (first["trust"], first["factor"]) == (0.0, 0.36)
        assert first["finding"] == "points away from the others (cosine -0.83)"
        assert (second["trust"], second["factor"]) == (1.0, 1.0)
        assert second["finding"] == "fits the others (cosine 0.60)"
        assert third["trust"] is None
        title = "agents of round 1 of tiny"
        output = run("rounds", plant.config, "--round", 1).output
        head, _, *lines = table(output, title)
        assert head.split()[-1] == "found"
        told = "points away from the others (cosine -0.83), shortened to 0.36 of its length"
        assert lines[0].rstrip().endswith(told)
        assert "fits" not in output

    def test_who_pulls_against_the_others(self, run: Run, plant: SimpleNamespace) -> None:
        """In large rounds agreement is all that is told; who agrees needs no word."""
        words = "pulls against most others (cosine -0.20)"
        found = {
            "press-1": {"statistic": words, "agreement": -0.2},
            "press-2": {"statistic": "agrees with most others (cosine 0.31)", "agreement": 0.31},
        }
        report = json.encode({"report": {"verdicts": found}}).decode()
        execute(plant.database, "UPDATE rounds SET report = ? WHERE round = 1", report)
        execute(plant.database, "UPDATE updates SET included_in = 1 WHERE round = 1")
        output = run("rounds", plant.config, "--round", 1).output
        assert words in output
        assert "agrees" not in output

    def test_who_is_in_quarantine(self, run: Run, plant: SimpleNamespace) -> None:
        """From the round after the one that found it on: in the round's list and in the fleet's."""
        execute(plant.database, "UPDATE rounds SET report = ? WHERE round = 1", JUDGED)
        with SqlStore.in_file(plant.database) as store:
            [pattern] = store.recent_updates("tiny", 1)[:1]
            changes = {"round": 3, "agent": "press-1", "state": "received", "included_in": None}
            store.add_update(structs.replace(pattern, **changes))
        title = "agents of round {} of tiny"
        before = table(run("rounds", plant.config, "--round", 1).output, title.format(1))
        after = table(run("rounds", plant.config, "--round", 3).output, title.format(3))
        assert before[2].split()[1] == "included"
        assert after[2].split()[1] == "quarantined"
        [line] = rows(run("rounds", plant.config, "--round", 3, "--json"))
        assert (line["update"], line["quarantined"]) == ("received", "check the labels")
        first, second, *_ = table(run("fleet", plant.config).output, "fleet of tiny")[2:]
        assert ("quarantined" in first, "quarantined" in second) == (True, False)
        told = [row["jobs"][0]["quarantined"] for row in rows(run("fleet", plant.config, "--json"))]
        assert told == ["check the labels", ""]
        listed = run("rounds", plant.config, "--json")
        assert [row["quarantined"] for row in rows(listed)] == [0, 1, 1]
        assert "quarantined" in table(run("rounds", plant.config).output, "rounds of tiny")[0]

    def test_agents_of_a_round_for_people(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Bytes in kilobytes; at 50 columns what is not about bytes goes first."""
        title = "agents of round 1 of tiny"
        head, _, *lines = table(run("rounds", plant.config, "--round", 1).output, title)
        assert re.search(r"windows +loss +norm +frame kB +up kB +down kB", head)
        cells = ["press-1", "included", "8", "0.5000", "0.7500", "1250", "1400", "0.0"]
        assert lines[0].split() == cells
        assert lines[2].split() == ["press-3", "100.0", "0.0"]
        monkeypatch.setenv("COLUMNS", "50")
        output = run("rounds", plant.config, "--round", 1).output
        assert "no room for: norm" in output
        assert "1400" in output

    def test_agents_of_the_open_round(self, run: Run, plant: SimpleNamespace) -> None:
        """What is known so far; of one that was abandoned without a byte, nothing."""
        [line] = rows(run("rounds", plant.config, "--round", 3, "--json"))
        assert (line["agent"], line["update"], line["uplink_bytes"]) == ("press-1", "", 500_000)
        assert rows(run("rounds", plant.config, "--round", 2, "--json")) == []
        assert "none yet" in run("rounds", plant.config, "--round", 2).output

    def test_what_came_after_the_last_round(self, run: Run, plant: SimpleNamespace) -> None:
        """Is listed under the number that no round has."""
        with SqlStore.in_file(plant.database) as store:
            count = TrafficRecord(
                job="tiny", round=4, agent="press-1", uplink_bytes=1, downlink_bytes=2
            )
            store.save_traffic("tiny", 4, [count])
        [line] = rows(run("rounds", plant.config, "--round", 4, "--json"))
        assert (line["uplink_bytes"], line["downlink_bytes"]) == (1, 2)

    def test_a_round_that_nobody_knows(self, run: Run, two_jobs: SimpleNamespace) -> None:
        """It says which ones there are."""
        result = run("rounds", two_jobs.config, "--job", "tiny", "--round", 4)
        assert (result.exit_code, result.stderr) == (
            2,
            "fedmill: --round is 4 (rounds: 1 to 3)\n",
        )
        result = run("rounds", two_jobs.config, "--job", "second", "--round", 1)
        assert result.stderr == "fedmill: --round is 1 (there is none yet)\n"

    @pytest.mark.parametrize(("last", "numbers"), [(1, [3]), (2, [2, 3]), (0, [1, 2, 3])])
    def test_last(self, run: Run, plant: SimpleNamespace, last: int, numbers: list[int]) -> None:
        """As many as asked for; 0 is all."""
        listed = rows(run("rounds", plant.config, "--json", "--last", last))
        assert [row["round"] for row in listed] == numbers

    def test_a_negative_number(self, run: Run, plant: SimpleNamespace) -> None:
        """It would silently leave some out."""
        assert run("rounds", plant.config, "--last", -2).exit_code == 2

    def test_several_jobs_need_a_name(self, run: Run, two_jobs: SimpleNamespace) -> None:
        """The error lists them; with a name it works, also for a job without rounds."""
        result = run("rounds", two_jobs.config)
        assert result.exit_code == 2
        assert result.stderr == "fedmill: --job is missing (jobs: second, tiny)\n"
        assert len(rows(run("rounds", two_jobs.config, "--job", "tiny", "--json"))) == 3
        assert "none yet" in run("rounds", two_jobs.config, "--job", "second").output
        unknown = run("rounds", two_jobs.config, "--job", "third")
        assert (unknown.exit_code, "'third'" in unknown.stderr) == (2, True)


class TestModels:
    """``fedmill models``."""

    @pytest.mark.parametrize("words", [["models"], ["models", "list"]])
    def test_json(self, run: Run, plant: SimpleNamespace, words: list[str]) -> None:
        """With and without the word ``list``: versions, aliases, and what is still there."""
        listed = rows(run(*words, plant.config, "--json"))
        assert [row["version"] for row in listed] == plant.versions
        assert [row["alias"] for row in listed] == ["", "stable", "candidate"]
        assert [row["weights"] for row in listed] == ["forgotten", "kept", "kept"]
        assert [row["value"] for row in listed] == [None, 0.875, None]
        assert [row["windows"] for row in listed] == [0, 8, 0]
        assert [row["round"] for row in listed] == [None, 1, 2]

    def test_table(self, run: Run, plant: SimpleNamespace) -> None:
        """The options of ``list`` work without the word as well."""
        output = run("models", "--last", 1, plant.config).output
        assert "candidate" in output
        assert "stable" not in output

    def test_help(self, run: Run) -> None:
        """It names both commands."""
        for words in (["models", "--help"], ["models"]):
            output = run(*words).output
            assert "list" in output
            assert "export" in output


class TestErrors:
    """One line and the exit code of its kind, for every listing."""

    COMMANDS = ("fleet", "jobs", "rounds", "models", "metrics")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_coordinator_that_never_ran(self, run: Run, empty: Path, command: str) -> None:
        """There is no database, and none is made."""
        result = run(command, empty)
        assert result.exit_code == 21
        assert result.stderr.startswith(f"fedmill: {empty.parent}/state/fedmill.sqlite: no such")
        assert result.stderr.endswith("(run `fedmill serve` first)\n")
        assert result.stderr.count("\n") == 1
        assert not (empty.parent / "state").exists()

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_missing_configuration(self, run: Run, tmp_path: Path, command: str) -> None:
        """Named."""
        result = run(command, tmp_path / "none.toml")
        assert result.exit_code == 10
        assert result.stderr.startswith("fedmill: ")
        assert "none.toml: cannot be read" in result.stderr

    def test_a_wrong_configuration(self, run: Run, empty: Path) -> None:
        """With its line."""
        empty.write_text("[broker]\nport = 'x'\n")
        result = run("fleet", empty)
        assert result.exit_code == 10
        assert "coordinator.toml:2: broker.port" in result.stderr

    def test_a_damaged_database(self, run: Run, plant: SimpleNamespace) -> None:
        """No traceback."""
        (plant.config.parent / "state" / "fedmill.sqlite").write_bytes(b"no database" * 99)
        for name in ("-wal", "-shm"):
            (plant.config.parent / "state" / f"fedmill.sqlite{name}").unlink(missing_ok=True)
        result = run("jobs", plant.config)
        assert result.exit_code == 21
        assert "is not a database" in result.stderr
        assert result.stderr.count("\n") == 1

    def test_an_unknown_command(self, run: Run) -> None:
        """It is an error of use."""
        assert run("fleece").exit_code == 2

    def test_help_lists_every_command(self, run: Run) -> None:
        """Without importing them."""
        output = run("--help").output
        for name in ("serve", "job", "jobs", "fleet", "rounds", "models", "metrics", "demo"):
            assert f"\n  {name} " in output

    @pytest.mark.parametrize("command", COMMANDS)
    def test_a_full_disk(self, plant: SimpleNamespace, command: str) -> None:
        """Output that has no room is one line on standard error, not a traceback."""
        words = [sys.executable, "-m", "fedmill_coordinator", command, str(plant.config)]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                words, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        said = "fedmill: the output cannot be written: No space left on device\n"
        assert (done.returncode, done.stderr) == (1, said)

    def test_version(self, run: Run) -> None:
        """As every program has."""
        assert run("--version").output.startswith("fedmill, version ")
