# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent label``: what people say reaches the agent, and they see what became of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.agent.kit import Journal, a_job

from fedmill_agent.cli import main
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.intake import Intake
from fedmill_agent.labels import spool
from fedmill_agent.labels.desk import LabelDesk
from fedmill_agent.labels.record import LabelRecord
from fedmill_agent.places import job_folder, labels_folder, windows_file
from fedmill_agent.store.joining import joining_of
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.audit import FILE
from fedmill_shared.audit.person import who
from fedmill_shared.audit.verifying import entries
from fedmill_shared.clock import SystemClock
from fedmill_shared.job import Job
from fedmill_shared.job_check import canonical
from fedmill_shared.signals.windows import Window

Configure = Callable[..., Path]
SECOND = 10**9


@pytest.fixture
def config(configure: Configure) -> Path:
    """The configuration of an agent that has accepted the press."""
    path = configure()
    accept(path, a_job())
    return path


def accept(config: Path, job: Job) -> None:
    """As the daemon does."""
    folder = job_folder(str(config.parent / "a-state"), job.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_bytes(canonical(job))


def waiting(config: Path) -> list[LabelRecord]:
    """Labels that were left for the daemon."""
    folder = labels_folder(str(config.parent / "a-state"))
    return [record for path in spool.waiting(folder) for record in spool.read(path).records]


def take(config: Path, job: Job, seconds: int = 8) -> None:
    """As the daemon does: labels into the book, and into the windows of a job."""
    settings: AgentConfig = load(config)
    state = settings.agent.state
    desk = LabelDesk(settings, SystemClock(), Journal())
    desk.tick()
    with WindowStore(
        windows_file(state, job),
        clock=SystemClock(),
        max_bytes=1 << 24,
        max_age_seconds=1e9,
        joining=joining_of(job.labels),
    ) as store:
        values = np.zeros((1, 8), np.float32)
        store.add(
            [
                Window("press", "press", n * SECOND, (n + 1) * SECOND - 1, values, 1.0, n)
                for n in range(seconds)
            ],
            "train",
        )
        Intake(job, settings, store, Scorer(SystemClock()), Journal()).follow(desk)
    desk.close()


def run(config: Path, *arguments: str) -> int:
    """The command."""
    return main(["label", str(config), *arguments])


class TestHandOver:
    def test_a_label(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It waits in a file, with the time at which it was made."""
        assert run(config, "--unit", "press", "--from", "1", "--to", "2", "--class", "good") == 0
        assert capsys.readouterr().out == (
            "1 label left for agent a, which takes them once it is started\n"
        )
        [found] = waiting(config)
        assert (found.unit, found.start_ns, found.text) == ("press", SECOND, "good")
        assert found.made_ns is not None

    def test_what_is_said_later_holds(self, config: Path) -> None:
        """The same command with another class corrects, and --delete withdraws."""
        about = ("--unit", "press", "--from", "1", "--to", "2")
        for more in (("--class", "good"), ("--class", "worn"), ("--delete",)):
            assert run(config, *about, *more) == 0
        first, second, third = waiting(config)
        assert len({first.id, second.id, third.id}) == 1
        assert first.rank < second.rank < third.rank

    def test_who_gives_them_is_on_record(self, config: Path, tmp_path: Path) -> None:
        """One record for a command: what one label says, or which ones there are."""
        about = ("--unit", "press", "--id", "x", "--from", "1", "--to", "2")
        assert run(config, *about, "--class", "worn") == 0
        assert run(config, *about, "--delete") == 0
        file = tmp_path / "labels.json"
        file.write_text(
            '[{"unit": "saw", "id": "y", "start": 1, "end": 2, "class": "good"},'
            ' {"unit": "saw", "id": "z", "start": 2, "end": 3, "class": "good"}]'
        )
        assert run(config, "--file", str(file)) == 0
        acts = list(entries(config.parent / "a-state" / FILE))
        assert {(each.who, each.what) for each in acts} == {(who(), "labels.given")}
        assert [(each.subject, each.after) for each in acts] == [
            ("x", "worn"),
            ("x", "withdrawn"),
            ("2 labels, y to z", ""),
        ]

    def test_without_a_record_none_is_left(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As on a full disk: nobody would know who teaches the model."""
        (config.parent / "a-state" / FILE).mkdir()
        assert run(config, "--unit", "press", "--from", "1", "--to", "2", "--class", "good") == 21
        assert "audit.jsonl: cannot be written" in capsys.readouterr().err
        assert waiting(config) == []

    def test_a_number_for_a_part(self, config: Path) -> None:
        """With everything that there is to say."""
        assert run(
            config, "--unit", "saw", "--part", "7", "--value", "-2.5", "--start-value", "1",
            "--from", "2024-01-01", "--to", "2024-01-02", "--id", "x", "--revision", "3",
            "--job", "later", "--made", "2024-01-03T12:00:00+01:00",
        ) == 0  # fmt: skip
        [found] = waiting(config)
        assert (found.piece, found.id, found.revision, found.job) == ("7", "x", 3, "later")
        assert (found.start_value, found.end_value) == (1.0, -2.5)

    @pytest.mark.parametrize("name", ["labels.csv", "labels.json"])
    def test_a_file(self, config: Path, tmp_path: Path, name: str) -> None:
        """CSV with a decimal comma, or JSON."""
        path = tmp_path / name
        path.write_text(
            "unit;start;class\npress;1,5;good\npress;2,5;worn\n"
            if name.endswith("csv")
            else '[{"unit": "press", "start": 1.5, "class": "good"},'
            ' {"unit": "press", "start": 2.5, "class": "worn"}]'
        )
        assert run(config, "--file", str(path), "--delimiter", ";", "--decimal", ",") == 0
        assert [(each.start_ns, each.text) for each in waiting(config)] == [
            (1_500_000_000, "good"),
            (2_500_000_000, "worn"),
        ]

    def test_many_labels(self, config: Path, tmp_path: Path) -> None:
        """In several files; each is taken as a whole."""
        path = tmp_path / "many.csv"
        rows = [f"press,{n},good" for n in range(spool.PORTION + 1)]
        path.write_text("\n".join(["unit,start,class", *rows, ""]))
        assert run(config, "--file", str(path)) == 0
        assert len(spool.waiting(labels_folder(str(config.parent / "a-state")))) == 2
        assert len(waiting(config)) == spool.PORTION + 1

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ((), "no label is given (give --unit"),
            (("--class", "good"), "command line: the label names no unit"),
            (("--unit", "press", "--from", "1", "--class", "brunt", "--job", "press"),
             "job press refuses it: 'brunt' is none of the job's classes: good, worn"),
            (("--unit", "press", "--from", "x", "--class", "good"), "line: --from is 'x', "),
            (("--unit", "a", "--from", "2", "--to", "1", "--class", "b"), "--to '1' lies before"),
            (("--unit", "a", "--from", "1", "--value", "3,5"), "'3,5' is not a number"),
            (("--file", "labels.txt"), "is neither .csv nor .json"),
            (("--file", "missing.csv"), "missing.csv: cannot be read"),
            (("--file", "missing.json"), "missing.json: cannot be read"),
            (("--file", "a.csv", "--unit", "press"), "--file and a label are given"),
            (("--file", "a.csv", "--delimiter", ";;"), "--delimiter ';;'"),
        ],
    )  # fmt: skip
    def test_what_cannot_be(
        self,
        config: Path,
        capsys: pytest.CaptureFixture[str],
        arguments: tuple[str, ...],
        told: str,
    ) -> None:
        """It is told at once, and nothing is left for the daemon."""
        assert run(config, *arguments) > 0
        assert told in capsys.readouterr().err
        assert waiting(config) == []

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("unit;start;class\na;1;b\n", "(write these names above the columns, or give --delimi"),
            ('unit,start,value\na,1,"3,5"\n', '(give --decimal "," if a comma separates'),
            ("start,class\n1,good\n", "(add the machine as `unit`)"),
        ],
    )
    def test_a_file_of_another_kind(
        self,
        config: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        text: str,
        told: str,
    ) -> None:
        """The remedy is an option of this command, or a column of the file."""
        path = tmp_path / "many.csv"
        path.write_text(text)
        assert run(config, "--file", str(path)) == 13
        assert told in capsys.readouterr().err

    def test_a_file_with_a_mistake_is_left_whole(
        self, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Who corrects it hands it over as a whole."""
        path = tmp_path / "labels.csv"
        path.write_text("unit,start,class\npress,1,good\npress,soon,good\npress,late,good\n")
        assert run(config, "--file", str(path)) == 13
        assert "line 3: the label `start` is 'soon', which is no time; 1 more are wrong" in (
            capsys.readouterr().err
        )
        assert waiting(config) == []

    def test_what_no_job_can_use_is_noted(
        self, config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A job that comes later may."""
        assert run(config, "--unit", "press", "--from", "1", "--value", "3") == 0
        assert "note: job press refuses it: 3 is a number, and the job learns classes" in (
            capsys.readouterr().out
        )
        accept(config, a_job("wear", task="regression"))
        assert run(config, "--unit", "press", "--from", "1", "--value", "3", "--json") == 0
        body = msgspec.json.decode(capsys.readouterr().out)
        assert (body["labels"], body["running"], body["notes"]) == (1, False, [])
        assert run(config, "--unit", "press", "--from", "1", "--value", "3", "--job", "x") == 0
        assert "note: the agent has no job x yet" in capsys.readouterr().out


class TestList:
    def test_the_fate_of_labels(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Those that are there, those on their way, and what each job makes of them."""
        about = ("--unit", "press", "--from")
        run(config, *about, "0", "--to", "3", "--class", "good", "--made", "8")
        run(config, *about, "3", "--to", "5", "--class", "good", "--made", "10")
        run(config, *about, "3", "--to", "5", "--class", "worn", "--made", "11")
        run(config, *about, "5", "--to", "6", "--class", "good", "--id", "ann", "--made", "7")
        run(config, *about, "5", "--to", "6", "--class", "worn", "--id", "bob", "--made", "7.5")
        run(config, *about, "6", "--to", "7", "--class", "brunt", "--made", "7")
        run(config, *about, "50", "--to", "70", "--class", "good", "--made", "70")
        run(config, *about, "7", "--to", "8", "--class", "good", "--made", "8")
        run(config, *about, "7", "--to", "8", "--delete", "--made", "9")
        take(config, a_job())
        run(config, *about, "7", "--to", "8", "--class", "good")
        capsys.readouterr()
        assert run(config, "--list") == 0
        told = capsys.readouterr().out
        assert told.startswith("7 labels, 1 files wait for the agent\n")
        assert (
            "press 1970-01-01T00:00:03.000Z to 1970-01-01T00:00:05.000Z: worn, corrected 1" in told
        )
        assert (
            "job press\n  labels 5, 5 a day, half of them within 1.5 s, 95 % within 5.8 s\n" in told
        )
        assert "  1 corrected, 1 deleted, 1 refused, 1 without a window\n" in told
        assert "  6 of 8 windows labelled: good 3, worn 3, 1 contested\n" in told

    def test_for_programs(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The same as numbers, here and in the status."""
        run(config, "--unit", "press", "--from", "0", "--to", "2", "--class", "good")
        take(config, a_job())
        capsys.readouterr()
        assert run(config, "--list", "--json") == 0
        body: dict[str, Any] = msgspec.json.decode(capsys.readouterr().out)
        assert (body["labels"], body["waiting_files"]) == (1, 0)
        assert (body["newest"][0]["class"], body["newest"][0]["unit"]) == ("good", "press")
        report = body["jobs"]["press"]
        assert (report["labels"], report["labelled"], report["balance"]) == (1, 2, {"good": 2})
        assert report["lowest"] is None

    def test_numbers(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """Their range takes the place of classes."""
        config, job = configure(), a_job(task="regression")
        accept(config, job)
        about = ("--unit", "press", "--from", "0", "--to", "2")
        run(config, *about, "--value", "3", "--start-value", "1")
        take(config, job)
        capsys.readouterr()
        run(config, "--list")
        assert "2 of 8 windows labelled: 2 to 3\n" in capsys.readouterr().out

    def test_nothing_yet(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """Before the agent ever ran, and before the first label."""
        config = configure()
        assert run(config, "--list") == 0
        assert capsys.readouterr().out == "0 labels\n"
        accept(config, a_job())
        assert run(config, "--list") == 0
        assert capsys.readouterr().out == "0 labels\njob press\n  no labels\n"

    def test_what_cannot_be_read(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It is said, and hides no other job."""
        take(config, a_job())
        accept(config, a_job("wear", task="regression"))
        windows_file(str(config.parent / "a-state"), a_job()).write_bytes(b"garbage" * 1000)
        capsys.readouterr()
        assert run(config, "--list") == 0
        told = capsys.readouterr().out
        assert "job press\n  labels unknown: " in told
        assert "job wear\n  no labels\n" in told
