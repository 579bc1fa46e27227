# SPDX-License-Identifier: Apache-2.0
"""What the status says of predictions; the rest is in ``test_run``."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import a_job

from fedmill_agent.cli import main
from fedmill_agent.places import job_folder, windows_file
from fedmill_agent.sources.state import Standing
from fedmill_agent.status import status_of, write_status
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.files import make_folder
from fedmill_shared.job import Job
from fedmill_shared.job_check import canonical
from fedmill_shared.messages import AgentState, InstallReport, JobPhase

Configure = Callable[..., Path]
START = 1_704_067_200_000_000_000
SCORED = 1_700_000_000_000_000_000


def store(folder: Path, job: Job, outputs: Sequence[Sequence[float]]) -> None:
    """Leave what the daemon leaves: its status, the job, and a prediction a second."""
    state = AgentState(online=True, jobs={job.name: JobPhase(phase="joined", version="ab" * 32)})
    make_folder(job_folder(str(folder), job.name))
    write_status(folder, status_of(state, connected=True, trainer_pid=None))
    (job_folder(str(folder), job.name) / "job.json").write_bytes(canonical(job))
    with WindowStore(
        windows_file(str(folder), job), clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9
    ) as windows:
        windows.add_predictions(
            [
                Prediction("r", START + i * 10**9, "cd" * 32, np.array(row, np.float32), SCORED)
                for i, row in enumerate(outputs)
            ]
        )


def shown(config: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines behind those of the job."""
    assert main(["status", str(config)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    first = next(i for i, line in enumerate(lines) if line.startswith(" " * 11 + "predictions"))
    return [line[11:] for line in lines[first:]]


def told(config: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    """The predictions in JSON."""
    assert main(["status", str(config), "--json"]) == 0
    body = msgspec.json.decode(capsys.readouterr().out)
    assert body["running"]
    return body["predictions"]


class TestPredictions:
    def test_classes(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """How many are stored, and of the newest five time, class, probability and version."""
        config = configure()
        store(config.parent / "a-state", a_job(), [(0.0, 9.0)] * 5 + [(0.0, 0.0), (3.0, 0.0)])
        row = "  2024-01-01T00:00:0{}.000Z  {}  {} %  cdcdcdcdcdcd"
        assert shown(config, capsys) == [
            "predictions 7 stored, the newest 5:",
            *(row.format(second, "worn", "100.0") for second in (2, 3, 4)),
            row.format(5, "good", " 50.0"),
            row.format(6, "good", " 95.3"),
        ]
        found = told(config, capsys)["press"]
        assert (found["stored"], len(found["last"])) == (7, 5)
        last = found["last"][-1]
        assert last.pop("probability") == pytest.approx(0.952574)
        assert last == {
            "run": "r",
            "end": "2024-01-01T00:00:06.000Z",
            "class": "good",
            "version": "cd" * 32,
            "scored": "2023-11-14T22:13:20.000Z",
        }

    def test_numbers(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """The value with the job's unit."""
        config = configure()
        store(config.parent / "a-state", a_job(task="regression"), [(1234.5678,), (-1.25,)])
        assert shown(config, capsys) == [
            "predictions 2 stored, the newest 2:",
            "  2024-01-01T00:00:00.000Z  1234.57 h  cdcdcdcdcdcd",
            "  2024-01-01T00:00:01.000Z  -1.25 h    cdcdcdcdcdcd",
        ]
        last = told(config, capsys)["press"]["last"][-1]
        assert (last["value"], last["unit"]) == (-1.25, "h")

    def test_long_names(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """Classes are cut on the terminal, so that a line stays one, and whole in JSON."""
        name = "inner ring, spalled over a third"
        job = a_job()
        job = structs.replace(job, labels=structs.replace(job.labels, classes=["good", name]))
        config = configure()
        store(config.parent / "a-state", job, [(0.0, 9.0)])
        assert "inner ring, spall…  100.0 %" in shown(config, capsys)[1]
        assert told(config, capsys)["press"]["last"][0]["class"] == name

    def test_none_yet(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """Before the first model version, and before the job was accepted."""
        config = configure()
        folder = config.parent / "a-state"
        store(folder, a_job(), [])
        assert shown(config, capsys) == ["predictions 0 stored"]
        (job_folder(str(folder), "press") / "job.json").unlink()
        assert shown(config, capsys) == ["predictions 0 stored"]
        assert told(config, capsys) == {"press": {"stored": 0, "last": []}}

    @pytest.mark.parametrize("damaged", ["job.json", "windows"])
    def test_what_cannot_be_read(
        self, configure: Configure, capsys: pytest.CaptureFixture[str], damaged: str
    ) -> None:
        """It is said, and the rest of the status is there."""
        config, job = configure(), a_job()
        folder = config.parent / "a-state"
        store(folder, job, [(0.0, 9.0)])
        windows = windows_file(str(folder), job)
        path = windows if damaged == "windows" else windows.with_name(damaged)
        path.write_text("garbage" * 100)
        assert main(["status", str(config)]) == 0
        output = capsys.readouterr().out
        assert "predictions unknown:" in output
        assert "press: joined" in output
        assert told(config, capsys)["press"]["error"]


class TestReason:
    def test_why_it_does_not_train(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Behind the phase of the job it concerns, in lines that a terminal holds."""
        config = configure()
        reason = "outside the shifts mon-fri 22:00-06:00, sat-sun 00:00-24:00"
        jobs = {
            "press": JobPhase(phase="joined", ineligible=reason),
            "weld": JobPhase(phase="joined"),
        }
        folder = make_folder(config.parent / "a-state")
        state = AgentState(online=True, jobs=jobs)
        write_status(folder, status_of(state, connected=True, trainer_pid=None))
        assert main(["status", str(config)]) == 0
        output = capsys.readouterr().out
        assert max(map(len, output.splitlines())) <= 80
        told = " ".join(output.split())
        assert f"press: joined, model none yet; does not train: {reason} windows none" in told
        assert "weld: joined, model none yet windows none" in told
        assert main(["status", str(config), "--json"]) == 0
        body = msgspec.json.decode(capsys.readouterr().out)
        assert body["state"]["jobs"]["press"]["ineligible"] == reason


class TestServed:
    def told(self, config: Path, capsys: pytest.CaptureFixture[str], **fields: object) -> str:
        """What is said of one job, in one line."""
        folder = make_folder(config.parent / "a-state")
        phase = JobPhase(phase="joined", **fields)
        state = AgentState(online=True, jobs={"press": phase})
        write_status(folder, status_of(state, connected=True, trainer_pid=None))
        assert main(["status", str(config)]) == 0
        output = capsys.readouterr().out
        assert max(map(len, output.splitlines())) <= 80
        return " ".join(output.split())

    def test_which_candidate_serves_and_why(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What each reached on the validation windows, in four digits."""
        config = configure()
        scores = {"global": 0.912345, "personal": 0.95, "local": 0.8}
        told = self.told(config, capsys, served="personal", scores=scores)
        expected = "serves personal; validation global 0.9123, personal 0.95, local 0.8"
        assert expected in told
        assert main(["status", str(config), "--json"]) == 0
        body = msgspec.json.decode(capsys.readouterr().out)
        job = body["state"]["jobs"]["press"]
        assert (job["served"], job["scores"]) == ("personal", scores)

    def test_without_validation_windows(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The common model serves, and nothing spoke for another."""
        told = self.told(configure(), capsys, served="global")
        assert "serves global; validation windows: none" in told

    @pytest.mark.parametrize(
        ("install", "expected"),
        [
            (
                InstallReport(release=3, version="cd" * 32, state="shadowing", serving="ab" * 32),
                "serving abababababab; release 3 cdcdcdcdcdcd shadowing",
            ),
            (
                InstallReport(
                    version="cd" * 32, state="rolled_back", gate="soak", reason="it failed"
                ),
                "serving none yet; version cdcdcdcdcdcd rolled back gate soak: it failed",
            ),
            (InstallReport(version="ab" * 32, state="committed", serving="ab" * 32), ""),
        ],
    )
    def test_what_serves_and_what_is_to(
        self,
        configure: Configure,
        capsys: pytest.CaptureFixture[str],
        install: InstallReport,
        expected: str,
    ) -> None:
        """With the gate that said no; nothing where what is trained from simply serves."""
        config = configure()
        told = self.told(config, capsys, version="ab" * 32, install=install)
        assert "model abababababab" in told
        assert expected in told
        assert ("serving" in told) == bool(expected)
        assert main(["status", str(config), "--json"]) == 0
        body = msgspec.json.decode(capsys.readouterr().out)
        assert body["state"]["jobs"]["press"]["install"]["version"] == install.version

    def test_without_a_choice_nothing_is_said(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As of most jobs."""
        assert "serves" not in self.told(configure(), capsys)


class TestOutput:
    def test_a_full_disk(self, configure: Configure) -> None:
        """Output that has no room is one line on standard error, not a traceback."""
        config = configure()
        store(config.parent / "a-state", a_job(), [(0.0, 9.0)])
        words = [sys.executable, "-m", "fedmill_agent", "status", str(config)]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                words, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        said = "fedmill-agent: the output cannot be written: No space left on device\n"
        assert (done.returncode, done.stderr) == (1, said)

    def test_why_windows_are_bad(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Which signal spoilt how many, and by what."""
        config = configure()
        faults = {"force: out of range": 7, "heat: stuck at one value": 2}
        phase = JobPhase(phase="joined", windows_bad=9, faults=faults)
        folder = make_folder(config.parent / "a-state")
        state = AgentState(online=True, jobs={"press": phase})
        write_status(folder, status_of(state, connected=True, trainer_pid=None))
        assert main(["status", str(config)]) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert "bad 9 (force: out of range 7, heat: stuck at one value 2)" in told
        assert main(["status", str(config), "--json"]) == 0
        body = msgspec.json.decode(capsys.readouterr().out)
        assert body["state"]["jobs"]["press"]["faults"] == faults

    def test_what_is_missing_in_the_audit_log(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Said while it runs, and while there is something to say."""
        config = configure()
        folder = make_folder(config.parent / "a-state")
        for lost, words in ((0, ""), (2, "2 records could not be written")):
            told = status_of(AgentState(online=True), connected=True, trainer_pid=None)
            status = msgspec.json.decode(told) | {"audit_lost": lost}
            write_status(folder, msgspec.json.encode(status))
            assert main(["status", str(config)]) == 0
            shown = capsys.readouterr().out
            assert ("audit log" in shown) == bool(lost)
            assert words in shown

    def test_windows_that_waited_too_long(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """They are told beside those that are bad, where there are any."""
        config = configure()
        folder = make_folder(config.parent / "a-state")
        for skipped, words in ((0, "bad 0"), (4, "bad 0, too late 4")):
            phase = JobPhase(phase="joined", windows_skipped=skipped)
            state = AgentState(online=True, jobs={"press": phase})
            write_status(folder, status_of(state, connected=True, trainer_pid=None))
            assert main(["status", str(config)]) == 0
            said = capsys.readouterr().out
            assert words in said
            assert ("too late" in said) == bool(skipped)

    def test_how_sure_a_prediction_is(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In JSON, where it is known."""
        config, job = configure(), a_job()
        store(config.parent / "a-state", job, [(0.0, 9.0)])
        path = windows_file(str(config.parent / "a-state"), job)
        with WindowStore(path, clock=ManualClock(), max_bytes=10**7, max_age_seconds=1e9) as made:
            outputs = np.array([0, 9], np.float32)
            made.add_predictions([Prediction("r", START, "v", outputs, SCORED, confidence=0.75)])
        first, last = told(config, capsys)["press"]["last"]
        assert "confidence" not in first
        assert last["confidence"] == 0.75


class TestSources:
    def test_a_live_source_that_fell_silent(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Phase and cause, what came, what was left out, and tags that do not come."""
        config = configure()
        folder = make_folder(config.parent / "a-state")
        standing = Standing(
            phase="silent",
            error="source 'plc': no good value for 60 s",
            readings=120,
            bad=20,
            stale=1,
            dropped={"silence": 2, "garbage": 7},
            connections=3,
            last_ns=START,
            problems={"T9": "there is no such node"},
        )
        state = AgentState(online=True)
        write_status(
            folder, status_of(state, connected=True, trainer_pid=None, sources={"plc": standing})
        )
        assert main(["status", str(config)]) == 0
        output = " ".join(capsys.readouterr().out.split())
        assert "source plc: silent: source 'plc': no good value for 60 s" in output
        assert "120 values, 20 bad, 1 stale; newest 2024-01-01T00:00:00.000Z; connected 3" in output
        assert "left out: garbage 7, silence 2" in output
        assert "tag T9: there is no such node" in output
        assert main(["status", str(config), "--json"]) == 0
        body = msgspec.json.decode(capsys.readouterr().out)
        assert body["sources"]["plc"]["dropped"] == {"silence": 2, "garbage": 7}

    def test_one_that_runs(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """An old error is not told any more, and nothing that did not happen."""
        config = configure()
        folder = make_folder(config.parent / "a-state")
        standing = Standing(phase="running", error="was away", readings=5, connections=2)
        state = AgentState(online=True)
        write_status(
            folder, status_of(state, connected=True, trainer_pid=None, sources={"plc": standing})
        )
        assert main(["status", str(config)]) == 0
        output = " ".join(capsys.readouterr().out.split())
        assert "source plc: running 5 values, 0 bad, 0 stale; nothing good yet" in output
        assert "left out" not in output


def test_before_the_first_release(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """An agent that trains and has nothing to score with says why."""
    config = configure()
    folder = config.parent / "a-state"
    folder.mkdir()
    state = AgentState(online=True, jobs={"tiny": JobPhase(phase="joined", version="ab" * 32)})
    write_status(folder, status_of(state, connected=True, trainer_pid=None))
    assert main(["status", str(config)]) == 0
    assert "nothing scores yet: no version was released to this agent" in capsys.readouterr().out
