# SPDX-License-Identifier: Apache-2.0
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmill_agent.cli import main

Configure = Callable[..., Path]


def problems(output: str) -> list[str]:
    """The problems that were printed."""
    return [line for line in output.splitlines() if line.startswith("problem: ")]


class TestGood:
    def test_a_source_that_fits(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its signals are shown with tag, extent and share of good samples."""
        assert main(["check", str(configure()), "--job", str(job_file), "--offline"]) == 0
        output = capsys.readouterr().out
        assert "configuration of agent a is well formed" in output
        assert "192 samples read, 1 Hz" in output
        assert "tag vibration" in output
        assert "100 % good" in output
        assert problems(output) == []

    def test_without_a_job(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """Tags that the configuration maps can be read; without any there is nothing to read."""
        assert main(["check", str(configure()), "--offline"]) == 0
        assert "give --job" in capsys.readouterr().out
        mapped = configure(extra='tags = {shake = "vibration"}')
        assert main(["check", str(mapped), "--offline"]) == 0
        assert "shake" in capsys.readouterr().out

    def test_missing_values_are_shown(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A signal without a value is seen at a glance."""
        path = configure()
        (tmp_path / "a.csv").write_text("run,vibration,label\n" + "r,nan,good\n" * 9)
        assert main(["check", str(path), "--job", str(job_file), "--offline"]) == 0
        assert "nothing good, 0 % good" in capsys.readouterr().out

    @pytest.mark.system
    def test_a_broker_that_answers(
        self, configure: Configure, mosquitto: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is named."""
        assert main(["check", str(configure(port=mosquitto))]) == 0
        assert f"broker 127.0.0.1:{mosquitto}: connected" in capsys.readouterr().out


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
            ("rate_hz = 3.0", 13, "3 samples per second"),
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
        assert f"127.0.0.1:{port}" in broker
        assert "start the broker" in broker
        assert "degC" in source

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

    @pytest.mark.parametrize("arguments", [[], ["dance"], ["check"], ["check", "a", "--jobb", "x"]])
    def test_the_command_line(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Exit code 2 and a usage line."""
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "usage: fedmill-agent" in capsys.readouterr().err
