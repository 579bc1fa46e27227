# SPDX-License-Identifier: Apache-2.0
import socket
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from scipy.io import savemat

from fedmill_agent.cli import main, trial
from fedmill_agent.cli.eligibility import eligibility_lines
from fedmill_agent.config import load
from fedmill_agent.governor import INTERVAL
from fedmill_shared.clock import ManualClock
from fedmill_shared.job_check import load_job
from fedmill_shared.link.base import Connected, LinkEvent
from fedmill_shared.link.mqtt import Endpoint, MqttLink

Configure = Callable[..., Path]


def problems(output: str) -> list[str]:
    """The problems that were printed."""
    return [line for line in output.splitlines() if line.startswith("problem: ")]


class TestGood:
    def test_a_source_that_fits(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its signals are shown with tag, extent and share of good samples; then what they give."""
        assert main(["check", str(configure()), "--job", str(job_file), "--offline"]) == 0
        output = capsys.readouterr().out
        assert "configuration of agent a is well formed" in output
        assert "192 samples read in 8 runs, 1 Hz (the job's; the source tells none)" in output
        assert "tag vibration" in output
        assert "100 % good" in output
        assert "  24 windows; 24 labelled: good 12, worn 12\n" in output
        assert "job press: 24 windows, 24 with a label to learn or test by\n" in output
        assert "missing" not in output
        assert problems(output) == []

    @pytest.mark.parametrize(
        ("extra", "rate"),
        [
            ("", "rate unknown"),
            ("rate_hz = 50.0", "50 Hz"),
            ('time_column = "run"\nrun_column = ""', "0.2 Hz"),
        ],
    )
    def test_without_a_job(
        self,
        configure: Configure,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        extra: str,
        rate: str,
    ) -> None:
        """Tags that the configuration maps can be read; the rate is the file's, or unknown."""
        path = configure()
        text = path.read_text().replace('run_column = "run"\n', "")
        (tmp_path / "a.csv").write_text("run,vibration,label\n0,1,good\n5,2,good\n10,3,worn\n")
        path.write_text(text + extra + "\n")
        assert main(["check", str(path), "--offline"]) == 0
        assert f"source line: {rate}; maps no tags, give --job" in capsys.readouterr().out
        path.write_text(text + extra + '\ntags = {shake = "vibration"}\n')
        assert main(["check", str(path), "--offline"]) == 0
        output = capsys.readouterr().out
        assert f"source line: 3 samples read, {rate}\n" in output
        assert "  shake                tag vibration        1 to 3, 100 % good\n" in output

    def test_a_simulated_source_without_a_job(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is read at a rate at which its resonances can be seen."""
        path = tmp_path / "rig.toml"
        path.write_text(
            '[agent]\nid = "a"\n[[sources]]\nkind = "rig"\nname = "rig"\nseconds = 1.0\n'
            'tags = {x = "vibration"}\n'
        )
        assert main(["check", str(path), "--offline"]) == 0
        assert "samples read, rate unknown" in capsys.readouterr().out

    def test_missing_values_are_shown(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A signal without a value is seen at a glance, and what follows from it."""
        path = configure()
        (tmp_path / "a.csv").write_text("run,vibration,label\n" + "r,nan,good\n" * 9)
        assert main(["check", str(path), "--job", str(job_file), "--offline"]) == 0
        output = capsys.readouterr().out
        assert "nothing good, 0 % good" in output
        assert (
            "  missing: a whole window of 8 samples; 2 are bad (vibration: missing 2)\n" in output
        )
        assert "missing: labelled windows; the agent would score" in output

    @pytest.mark.system
    def test_a_broker_that_answers(
        self, configure: Configure, mosquitto: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is named; the daemon of this agent keeps its place, and no session is left."""
        events: SimpleQueue[LinkEvent] = SimpleQueue()
        place = {"host": "127.0.0.1", "port": mosquitto, "subscriptions": ()}
        daemon = MqttLink(Endpoint(client_id="a", **place), events.put)
        daemon.start()
        assert isinstance(events.get(timeout=20), Connected)
        assert main(["check", str(configure(port=mosquitto))]) == 0
        assert f"broker 127.0.0.1:{mosquitto}: connected" in capsys.readouterr().out
        probe = MqttLink(Endpoint(client_id="a.check", **place), events.put)
        probe.start()
        assert events.get(timeout=20) == Connected(session_present=False)
        probe.stop()
        daemon.stop()


class TestEligibility:
    """What is missing although the data is there; none of it is a fault."""

    def missing(self, config: Path, job_file: Path, capsys: pytest.CaptureFixture[str]) -> str:
        """The lines that say what is missing."""
        assert main(["check", str(config), "--job", str(job_file), "--offline"]) == 0
        lines = capsys.readouterr().out.splitlines()
        return "\n".join(line for line in lines if line.startswith("  missing: "))

    @pytest.mark.parametrize(
        ("labels", "reason"),
        [
            ("", "the job does not select this agent: there is no label line"),
            ('labels = {line = "B"}', "the job does not select this agent: line is 'B'"),
            ('labels = {line = "A"}', ""),
        ],
    )
    def test_labels(
        self,
        configure: Configure,
        job_file: Path,
        capsys: pytest.CaptureFixture[str],
        labels: str,
        reason: str,
    ) -> None:
        """An agent that the job does not select learns which label it is."""
        federation = "[federation]\nselect = 'line == \"A\"'"
        job_file.write_text(job_file.read_text().replace("[federation]", federation))
        found = self.missing(configure(agent=labels), job_file, capsys)
        assert found == (f"  missing: {reason}" if reason else "")

    @pytest.mark.parametrize(
        ("by", "reason"),
        [("machine", ""), ("kind", "kind is 'mixer'"), ("agent", "agent is 'a'")],
    )
    def test_clusters(
        self,
        configure: Configure,
        job_file: Path,
        capsys: pytest.CaptureFixture[str],
        by: str,
        reason: str,
    ) -> None:
        """An agent in any cluster of a job is selected; its id is like a label."""
        clusters = f'[federation]\ncluster_by = "{by}"\nclusters = ["pump", "fan"]'
        job_file.write_text(job_file.read_text().replace("[federation]", clusters))
        labels = 'labels = {machine = "fan", kind = "mixer"}'
        found = self.missing(configure(agent=labels), job_file, capsys)
        told = "  missing: the job does not select this agent: "
        assert found == (told + reason if reason else "")

    @pytest.mark.parametrize(
        ("split", "wanted", "reason"),
        [
            ("auto", 18, ""),
            ("auto", 19, "about 18 labelled training windows, 19 wanted"),
            ("train", 24, ""),
            ("train", 25, "about 24 labelled training windows, 25 wanted"),
            ("test", 1, "about 0 labelled training windows, 1 wanted"),
        ],
    )
    def test_too_few_windows(
        self,
        configure: Configure,
        job_file: Path,
        capsys: pytest.CaptureFixture[str],
        *,
        split: str,
        wanted: int,
        reason: str,
    ) -> None:
        """Of 24 windows with a label a quarter is held out, unless the source says otherwise."""
        federation = f"[federation]\nmin_examples = {wanted}"
        job_file.write_text(job_file.read_text().replace("[federation]", federation))
        found = self.missing(configure(extra=f'split = "{split}"'), job_file, capsys)
        assert found == (f"  missing: {reason}" if reason else "")

    @pytest.mark.parametrize("enabled", [True, False])
    def test_a_machine_that_is_held(
        self,
        configure: Configure,
        job_file: Path,
        capsys: pytest.CaptureFixture[str],
        *,
        enabled: bool,
    ) -> None:
        """A limit that is passed right now is told where training is wanted at all."""
        settings = f"[training]\nenabled = {str(enabled).lower()}\nmin_free_bytes = {10**18}"
        found = self.missing(configure(extra=settings), job_file, capsys)
        assert ("training is held now: " in found) == enabled
        assert ("at least 1000000000000 MB wanted" in found) == enabled

    def test_a_busy_processor(
        self, job_file: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is read over a time in which the command itself does nothing."""
        pauses: list[float] = []
        monkeypatch.setattr("fedmill_agent.cli.eligibility.time.sleep", pauses.append)
        job, clock = load_job(job_file), ManualClock()
        for percent in (100, 99):
            config = load(configure(extra=f"[training]\nmax_cpu_percent = {percent}"))
            list(eligibility_lines(config, job, clock))
        assert pauses == [INTERVAL]

    def test_beside_a_source_that_fails(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Both are told, so that one visit to the gateway mends both."""
        federation = '[federation]\nselect = "line"'
        job_file.write_text(job_file.read_text().replace("[federation]", federation))
        config = configure()
        config.with_name("a.csv").unlink()
        assert main(["check", str(config), "--job", str(job_file), "--offline"]) == 13
        output = capsys.readouterr().out
        assert "job press: no source could be read\n  missing: the job does not select" in output
        assert len(problems(output)) == 1


class TestDelivery:
    def told(
        self,
        configure: Configure,
        job_file: Path,
        capsys: pytest.CaptureFixture[str],
        **written: str,
    ) -> list[str]:
        """What is printed of a recording, behind its signals."""
        path = configure(extra=written.get("extra", ""))
        if "content" in written:
            path.with_name("a.csv").write_text(written["content"])
        if "without" in written:
            path.write_text(path.read_text().replace(written["without"], ""))
        main(["check", str(path), "--job", str(job_file), "--offline"])
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines[2:] if " tag " not in line and "problem" not in line]

    def test_no_labels(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The option that would name them is told."""
        without = 'label_column = "label"'
        assert self.told(configure, job_file, capsys, without=without)[1:] == [
            "  24 windows; none labelled",
            "  missing: labels, so nothing is learned here; give it `label_column`",
            "job press: 24 windows, 0 with a label to learn or test by",
            "  missing: labelled windows; the agent would score, and take no part in rounds",
        ]

    def test_some_labels(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Windows without one, and classes that never come."""
        content = "run,vibration,label\n" + "r,1,good\n" * 8 + "r,1,\n" * 8
        assert self.told(configure, job_file, capsys, content=content)[1:] == [
            "  2 windows; 1 labelled: good 1",
            "  missing: labels for 1 windows, which are not learned from",
            "job press: 2 windows, 1 with a label to learn or test by",
            "  missing: labels of worn, which other agents must have",
        ]

    def test_empty_and_short_labels(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A column without content, and labels that are shorter than a window."""
        content = "run,vibration,label\n" + "r,1,\n" * 8
        missing = self.told(configure, job_file, capsys, content=content)[2]
        assert missing.endswith("`label_column` is 'label', and empty there")
        content = "run,vibration,label\n" + "r,1,good\nr,1,worn\n" * 4
        missing = self.told(configure, job_file, capsys, content=content)[2]
        assert missing.endswith("labels cover no whole window")

    def test_live(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its windows are scored only; that is no fault of its labels."""
        assert self.told(configure, job_file, capsys, extra='split = "live"')[1:] == [
            "  24 windows; 24 labelled: good 12, worn 12",
            '  they are scored, and not learned from: split is "live"',
            "job press: 24 windows, 0 with a label to learn or test by",
            "  missing: labelled windows; the agent would score, and take no part in rounds",
        ]

    def test_short_runs(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No window is whole."""
        content = "run,vibration,label\n" + "r,1,good\n" * 7
        assert self.told(configure, job_file, capsys, content=content)[1:3] == [
            "  missing: a whole window of 8 samples; runs are shorter, or have gaps",
            "job press: 0 windows, 0 with a label to learn or test by",
        ]

    def test_a_trigger_that_never_comes(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The level is named, as the runs may be long enough."""
        cut = 'length = 8\ntrigger = "vibration"\ntrigger_level = 9.0\ntrigger_edge = "falling"'
        hysteresis = "\ntrigger_hysteresis = 0.5"
        text = job_file.read_text().replace("length = 8", cut + hysteresis)
        job_file.write_text(text)
        assert self.told(configure, job_file, capsys)[1] == (
            "  missing: a whole window of 8 samples; vibration never falls through 9 from "
            "above 9.5, or runs are shorter, or have gaps"
        )
        job_file.write_text(text.replace(hysteresis, "").replace("falling", "rising"))
        assert "vibration never rises through 9, or" in self.told(configure, job_file, capsys)[1]

    def test_a_slow_column(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Is as good as it comes, though cells in between are empty; half of it is half."""
        slow = '[[signals]]\nname = "load"\nrate_hz = 0.25\n\n[window]'
        job_file.write_text(job_file.read_text().replace("[window]", slow))
        for every, share in ((4, 100), (8, 50)):
            cells = "".join(f"r,{i},{i if i % every == 0 else ''},good\n" for i in range(64))
            path = configure()
            path.with_name("a.csv").write_text(f"run,vibration,load,label\n{cells}")
            main(["check", str(path), "--job", str(job_file), "--offline"])
            lines = [line for line in capsys.readouterr().out.splitlines() if " tag " in line]
            assert lines[0].endswith(" 100 % good")
            assert lines[1].endswith(f" {share} % good")

    def test_numbers(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Of a regression the smallest and the largest are told, in the job's unit."""
        text = job_file.read_text().replace('name = "press"', 'name = "press"\ntask = "regression"')
        job_file.write_text(text.replace('classes = ["good", "worn"]', 'unit = "h"'))
        content = "run,vibration,label\n" + "".join(f"r,1,{30 - i}\n" for i in range(24))
        extra = 'label_kind = "number"'
        assert self.told(configure, job_file, capsys, content=content, extra=extra)[1:] == [
            "  3 windows; 3 labelled, 7 to 23 h",
            "job press: 3 windows, 3 with a label to learn or test by",
        ]

    @pytest.mark.parametrize(
        ("bound", "least"), [("MOST_VALUES", 1), ("MOST_WINDOWS", 1), ("MOST_SECONDS", -1.0)]
    )
    def test_only_the_beginning(
        self,
        monkeypatch: pytest.MonkeyPatch,
        configure: Configure,
        *,
        job_file: Path,
        capsys: pytest.CaptureFixture[str],
        bound: str,
        least: float,
    ) -> None:
        """A long or a live source is not read for ever."""
        monkeypatch.setattr(trial, bound, least)
        first = self.told(configure, job_file, capsys)[0]
        assert first.startswith("source line: 24 samples read (not to the end), 1 Hz")

    def test_a_rate_that_is_brought_down(
        self, tmp_path: Path, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The source's own is shown beside the job's."""
        savemat(tmp_path / "a.mat", {"vibration": np.arange(64.0)})
        path = tmp_path / "a.toml"
        path.write_text(
            '[agent]\nid = "a"\n[[sources]]\nkind = "mat"\nname = "m"\npath = "a.mat"\n'
            'rate_hz = 4.0\nlabel = "good"\n'
        )
        assert main(["check", str(path), "--job", str(job_file), "--offline"]) == 0
        output = capsys.readouterr().out
        assert "source m: 16 samples read, 1 Hz (from 4 Hz)\n" in output
        assert "2 windows; 2 labelled: good 2" in output


class TestGateway:
    def test_what_the_machine_has(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Processors, memory and disk are shown first."""
        main(["check", str(configure()), "--offline"])
        assert "processors" in capsys.readouterr().out

    def test_a_disk_too_small_for_its_store(
        self, configure: Configure, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """A note, because it is no fault yet; and looking makes no folder."""
        path = configure()
        path.write_text(path.read_text() + "\n[store]\nmax_bytes = 4000000000000000\n")
        before = sorted(tmp_path.rglob("*"))
        assert main(["check", str(path), "--offline"]) == 0
        assert "more than the disk has" in capsys.readouterr().out
        assert sorted(tmp_path.rglob("*")) == before


class TestBad:
    @pytest.mark.parametrize(
        ("extra", "code", "told"),
        [
            ('tags = {vibration = "current"}', 13, "current"),
            ('tags = {shake = "vibration"}', 12, "maps signal 'shake'"),
            ('units = {vibration = "degC"}', 12, "degC"),
            ('units = {vibration = "furlong"}', 12, "furlong"),
            ("rate_hz = 2.5", 13, "2.5 samples per second"),
            ('time_column = "times"', 13, "time_column is 'times': the file has no such column"),
        ],
    )
    def test_sources(
        self,
        configure: Configure,
        *,
        job_file: Path,
        capsys: pytest.CaptureFixture[str],
        extra: str,
        code: int,
        told: str,
    ) -> None:
        """Each is a line that says what does not fit; the exit code tells the kind."""
        path = configure(extra=extra)
        assert main(["check", str(path), "--job", str(job_file), "--offline"]) == code
        [problem] = problems(capsys.readouterr().out)
        assert told in problem

    @pytest.mark.parametrize(
        ("content", "code", "told"),
        [
            ("run,vibration,label\nr,1,cracked\nr,2,cracked\n", 13, "label 'cracked'.*good, worn"),
            ("run,vibration,label\nr,1,x\nr,2,y\n", 13, "label 'x', 'y' are none.*good, worn"),
            ("run,vibration,label\n", 13, "'line' delivers no samples"),
            ("\x00\x01", 13, "a.csv"),
        ],
    )
    def test_recordings(
        self,
        configure: Configure,
        *,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        content: str,
        code: int,
        told: str,
    ) -> None:
        """Labels that the job does not know, nothing in it, and nonsense."""
        path = configure()
        (tmp_path / "a.csv").write_text(content)
        found = main(["check", str(path), "--job", str(job_file), "--offline"])
        [problem] = problems(capsys.readouterr().out)
        assert told.split(".*", maxsplit=1)[0] in problem
        assert told.rsplit(".*", maxsplit=1)[-1] in problem
        assert found == code

    def test_signals_that_are_missing(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """All of them are named, with the tags that were looked for."""
        signals = "".join(f'[[signals]]\nname = "{name}"\n' for name in ("force", "stroke"))
        job_file.write_text(job_file.read_text() + signals)
        path = configure(extra='tags = {force = "force_kN"}')
        assert main(["check", str(path), "--job", str(job_file), "--offline"]) == 13
        [problem] = problems(capsys.readouterr().out)
        assert "lacks 2 of 3 signals: force (tag 'force_kN'), stroke (tag 'stroke');" in problem
        assert "tags are run, vibration, label" in problem

    def test_another_rate_in_the_time_column(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The rate that the file has is told."""
        path = configure(extra='time_column = "t"')
        rows = "".join(f"r,1,good,{i / 10}\n" for i in range(9))
        (tmp_path / "a.csv").write_text("run,vibration,label,t\n" + rows)
        assert main(["check", str(path), "--job", str(job_file), "--offline"]) == 13
        [problem] = problems(capsys.readouterr().out)
        assert "its own rate is 10 Hz, the job's 1 Hz" in problem

    @pytest.mark.parametrize(
        ("task", "extra", "told"),
        [
            ("regression", "", "labels with classes ('good', 'worn'), job press learns a number"),
            (
                "classification",
                'label_kind = "number"',
                "labels with numbers, job press learns classes",
            ),
        ],
    )
    def test_labels_of_another_kind(
        self,
        configure: Configure,
        *,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        task: str,
        extra: str,
        told: str,
    ) -> None:
        """Classes for a regression, and numbers for a classification."""
        path = configure(extra=extra)
        if task == "regression":
            text = job_file.read_text().replace(
                'name = "press"', 'name = "press"\ntask = "regression"'
            )
            job_file.write_text(text.replace('classes = ["good", "worn"]', ""))
        else:
            (tmp_path / "a.csv").write_text("run,vibration,label\n" + "r,1,7\n" * 8)
        assert main(["check", str(path), "--job", str(job_file), "--offline"]) == 13
        [problem] = problems(capsys.readouterr().out)
        assert told in problem
        assert "(write label_kind = " in problem

    def test_a_missing_recording(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The file is named."""
        path = configure()
        (tmp_path / "a.csv").unlink()
        assert main(["check", str(path), "--job", str(job_file), "--offline"]) == 13
        assert str(tmp_path / "a.csv") in problems(capsys.readouterr().out)[0]

    def test_no_broker(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The sources are checked all the same; the first problem gives the exit code."""
        with socket.socket() as probe:  # bound, and nobody listens
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            path = configure(port=port, extra='units = {vibration = "degC"}')
            assert main(["check", str(path), "--job", str(job_file)]) == 20
        broker, source = problems(capsys.readouterr().out)
        assert f"127.0.0.1:{port}: no broker answers: Connection refused" in broker
        assert "start the broker" in broker
        assert "degC" in source

    @pytest.mark.system
    @pytest.mark.parametrize(
        ("host", "told"),
        [
            ("broker.invalid", "broker.invalid:1883: the host name broker.invalid is unknown"),
            ("a..b", "broker.host is 'a..b': no machine can have this name"),
        ],
    )
    def test_a_host_that_is_unknown(
        self, configure: Configure, capsys: pytest.CaptureFixture[str], host: str, told: str
    ) -> None:
        """It is told apart from a broker that is down, and so is the remedy."""
        path = configure()
        path.write_text(path.read_text().replace("[broker]\n", f'[broker]\nhost = "{host}"\n'))
        assert main(["check", str(path)]) == 20
        [problem] = problems(capsys.readouterr().out)
        assert told in problem
        assert "(correct host below [broker], or make it known" in problem

    def test_a_job_for_a_configuration(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The two are mixed up easily, and it is said which is which."""
        assert main(["check", str(job_file)]) == 10
        told = "job.toml:2: this is a job file: it has [job] (give an agent configuration, see"
        assert told in capsys.readouterr().err
        assert main(["check", str(configure()), "--job", str(configure())]) == 11
        told = "a.toml:1: this is an agent configuration: it has [agent] (give a job file, see"
        assert told in capsys.readouterr().err

    def test_a_broken_configuration_and_job(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """File, line and field; exit codes 10 and 11."""
        path = configure(agent="log_level = 'loud'")
        assert main(["check", str(path)]) == 10
        assert "a.toml:4: agent.log_level is" in capsys.readouterr().err
        job_file.write_text(job_file.read_text().replace("length = 8", "length = 0"))
        assert main(["check", str(configure()), "--job", str(job_file)]) == 11
        assert "job.toml:10: window.length is 0" in capsys.readouterr().err
