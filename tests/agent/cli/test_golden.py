# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent golden``: windows leave an agent only like this."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.agent.cli.test_fit import store_windows

from fedmill_agent.cli import main
from fedmill_agent.cli.fit import read
from fedmill_agent.cli.golden import draw
from fedmill_agent.config import load
from fedmill_agent.store.dataset import Dataset
from fedmill_shared.audit import FILE
from fedmill_shared.audit.person import who
from fedmill_shared.audit.verifying import entries
from fedmill_shared.golden import read_golden
from fedmill_shared.job_check import load_job

Configure = Callable[..., Path]


def dataset(texts: list[str], numbers: list[float]) -> Dataset:
    """Windows of one sample with this ground truth."""
    count = len(texts)
    return Dataset(
        inputs=np.zeros((count, 1, 1), np.float32),
        texts=texts,
        numbers=np.array(numbers, np.float64),
        runs=["r"] * count,
        units=["u"] * count,
        end_ns=np.arange(count, dtype=np.int64),
    )


class TestDraw:
    def test_every_class_as_often_as_it_can_be(self) -> None:
        """A rare class is there in whole before a common one takes the rest."""
        texts = ["good"] * 90 + ["worn"] * 8 + ["broken"] * 2
        chosen = draw(dataset(texts, [np.nan] * 100), 20, 0)
        assert Counter(texts[i] for i in chosen) == {"good": 10, "worn": 8, "broken": 2}
        assert (np.diff(chosen) > 0).all()

    def test_numbers_over_their_whole_range(self) -> None:
        """The smallest, the largest and those at even ranks between."""
        numbers = [float(n) for n in np.random.default_rng(0).permutation(101)]
        chosen = draw(dataset([""] * 101, numbers), 5, 0)
        assert sorted(numbers[i] for i in chosen) == [0.0, 25.0, 50.0, 75.0, 100.0]

    @pytest.mark.parametrize("texts", [["a", "b"], ["", ""]])
    def test_no_more_than_there_are(self, texts: list[str]) -> None:
        """Each window at most once."""
        assert draw(dataset(texts, [1.0, 2.0]), 10, 0).tolist() == [0, 1]

    def test_the_seed_decides(self) -> None:
        """The same command writes the same windows."""
        texts = ["a"] * 50
        one, same, other = (draw(dataset(texts, [np.nan] * 50), 5, seed) for seed in (1, 1, 2))
        assert one.tolist() == same.tolist() != other.tolist()


class TestCommand:
    def test_writes_what_the_coordinator_reads(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Training windows with their labels, and a word about what they are."""
        path, out, job = configure(), tmp_path / "press.golden", load_job(job_file)
        store_windows(path, job)
        command = ["golden", str(path), "--job", str(job_file), "--out", str(out), "--windows", "6"]
        assert main(command) == 0
        (act,) = entries(tmp_path / "a-state" / FILE)
        assert (act.who, act.what, act.subject) == (who(), "golden.released", job.name)
        assert act.after == f"6 windows to {out}"
        assert (
            capsys.readouterr().out
            == f"{out}: 6 labelled windows of job press; they are raw data\n"
        )
        golden, inputs = read_golden(out, job)
        stored = read(load(path), job, "train")
        assert Counter(golden.texts) == {"good": 3, "worn": 3}
        known = {
            window.tobytes(): text for window, text in zip(stored.inputs, stored.texts, strict=True)
        }
        assert [known[window.tobytes()] for window in inputs] == golden.texts

    def test_overwrites_nothing(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A file that is there may be in use."""
        out = tmp_path / "press.golden"
        out.write_bytes(b"old")
        assert main(["golden", str(configure()), "--job", str(job_file), "--out", str(out)]) == 2
        assert out.read_bytes() == b"old"
        assert f"--out {out}: exists" in capsys.readouterr().err

    def test_an_impossible_number(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is named with what is allowed."""
        command = ["golden", str(configure()), "--job", str(job_file), "--out", "x"]
        assert main([*command, "--windows", "0"]) == 2
        assert "--windows 0: give 1 to 100000" in capsys.readouterr().err

    def test_an_agent_that_never_ran(
        self, configure: Configure, job_file: Path, tmp_path: Path
    ) -> None:
        """It reads its sources: the very training windows that its daemon will store."""
        path, out, job = configure(), tmp_path / "x", load_job(job_file)
        assert main(["golden", str(path), "--job", str(job_file), "--out", str(out)]) == 0
        early, inputs = read_golden(out, job)
        store_windows(path, job)
        stored = read(load(path), job, "train")
        assert early.texts == stored.texts
        assert np.array_equal(inputs, stored.inputs)

    def test_classes_that_it_has_no_windows_of(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Agents that know these are measured by windows that do not, so it is said."""
        job_file.write_text(job_file.read_text().replace('"worn"]', '"worn", "cracked", "bent"]'))
        out = tmp_path / "x"
        assert main(["golden", str(configure()), "--job", str(job_file), "--out", str(out)]) == 0
        _, told = capsys.readouterr().out.splitlines()
        assert told.startswith("  missing: cracked, bent;")

    def test_nothing_of_that_stays(
        self, configure: Configure, job_file: Path, tmp_path: Path
    ) -> None:
        """Only the record of it is left in the state folder: the daemon begins with nothing."""
        path, out = configure(), tmp_path / "x"
        assert main(["golden", str(path), "--job", str(job_file), "--out", str(out)]) == 0
        assert [each.name for each in Path(load(path).agent.state).iterdir()] == [FILE]

    def test_held_out_and_live_sources_are_left_alone(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """What is not for training is not released, and nothing is written without windows."""
        out = tmp_path / "x"
        for split in ("test", "validation", "live"):
            path = configure(extra=f'split = "{split}"')
            assert main(["golden", str(path), "--job", str(job_file), "--out", str(out)]) == 13
            assert "no labelled training windows" in capsys.readouterr().err
        assert not out.exists()

    def test_no_source_that_can_be_read(
        self,
        configure: Configure,
        job_file: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The source's own fault is told."""
        path, out = configure(), tmp_path / "x"
        (tmp_path / "a.csv").unlink()
        assert main(["golden", str(path), "--job", str(job_file), "--out", str(out)]) == 13
        assert "a.csv" in capsys.readouterr().err
        assert not out.exists()
