# SPDX-License-Identifier: Apache-2.0
"""What the status says of the disk, of raw samples, and of windows that were given up."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.agent.kit import a_job

from fedmill_agent.cli import main
from fedmill_agent.cli.stores import amount, disk_in_words
from fedmill_agent.places import job_folder, samples_file, windows_file
from fedmill_agent.sources.live import Readings
from fedmill_agent.status import status_of, write_status
from fedmill_agent.store.samples import Keep, SampleStore
from fedmill_agent.store.space import DiskStatus, Level
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.files import make_folder
from fedmill_shared.job_check import canonical
from fedmill_shared.messages import AgentState, JobPhase
from fedmill_shared.signals.windows import Window

Configure = Callable[..., Path]
START = 1_704_067_200_000_000_000
DISK = DiskStatus(free_bytes=12_345_678_901, floor_bytes=200_000_000, level="ample", hours=5.25)


def leave(folder: Path, state: AgentState | None = None, disk: DiskStatus | None = DISK) -> None:
    """What the daemon leaves."""
    state = state or AgentState(online=True)
    write_status(make_folder(folder), status_of(state, connected=True, trainer_pid=None, disk=disk))


def record(folder: Path, source: str, samples: int) -> None:
    """A recording of two tags."""
    times = START + 10**9 * np.arange(samples)
    quality = np.full(samples, 192, np.uint16)
    with SampleStore(samples_file(str(folder), source), Keep(1 << 24, 1e9), ManualClock()) as store:
        store.append([Readings(tag, times, times * 1.0, quality, START) for tag in ("a", "b")])


def shown(config: Path, capsys: pytest.CaptureFixture[str], *, width: int = 80) -> str:
    """The whole status in one line, each of whose lines a terminal holds."""
    assert main(["status", str(config)]) == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= width
    return " ".join(output.split())


def body(config: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The status in JSON."""
    assert main(["status", str(config), "--json"]) == 0
    found: dict[str, object] = msgspec.json.decode(capsys.readouterr().out)
    return found


class TestDisk:
    def test_how_long_it_lasts(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Free space, the floor, and hours until it is reached."""
        config = configure()
        leave(config.parent / "a-state")
        assert "disk 12.3 GB free, floor 200 MB; filling, reached in 5.2 h" in shown(config, capsys)
        assert body(config, capsys)["disk"] == {
            "free_bytes": 12_345_678_901,
            "floor_bytes": 200_000_000,
            "level": "ample",
            "hours": 5.25,
        }

    def test_a_disk_that_does_not_tell(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Nothing is said of it."""
        config = configure()
        leave(config.parent / "a-state", disk=None)
        assert "disk" not in shown(config, capsys)

    @pytest.mark.parametrize(
        ("level", "hours", "words"),
        [
            ("ample", None, "5 GB free, floor 1 GB"),
            ("ample", 100.0, "5 GB free, floor 1 GB; filling, reached in 4 days"),
            ("low", 0.0, "5 GB free, floor 1 GB: low, stores give up what they hold"),
        ],
    )
    def test_in_words(self, level: Level, hours: float | None, words: str) -> None:
        """As one would say it."""
        disk = DiskStatus(free_bytes=5 * 10**9, floor_bytes=10**9, level=level, hours=hours)
        assert disk_in_words(disk) == words

    @pytest.mark.parametrize(
        ("size", "words"), [(999, "999 B"), (1000, "1 kB"), (123_456_789, "123 MB"), (0, "0 B")]
    )
    def test_amounts(self, size: int, words: str) -> None:
        """In three digits."""
        assert amount(size) == words


class TestSamples:
    def test_what_is_recorded(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Of each source: how many samples and tags, since when, how large."""
        config = configure()
        folder = config.parent / "a-state"
        leave(folder)
        record(folder, "hall 2/press", 60)
        told = shown(config, capsys)
        assert "samples hall 2/press: 120 of 2 tags in " in told
        assert "2024-01-01T00:00:00.000Z to 2024-01-01T00:00:59.000Z; 0 discarded" in told
        found = body(config, capsys)["samples"]["hall 2/press"]  # type: ignore[index]
        assert found["stored"] == {"a": 60, "b": 60}
        assert found["bytes"] > 4096

    def test_a_damaged_one_hides_no_other(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its fault is told with its file; an empty one has none."""
        config = configure()
        folder = config.parent / "a-state"
        leave(folder)
        record(folder, "good", 5)
        record(folder, "empty", 0)
        samples_file(str(folder), "bad").write_bytes(b"noise" * 1000)
        told = shown(config, capsys, width=200)  # a path is not broken
        assert "samples good: 10 of 2 tags" in told
        assert "samples empty: none; 0 discarded" in told
        assert "samples bad: unknown: " in told
        assert "bad.sqlite: file is not a database" in told


class TestWindows:
    def test_what_was_given_up(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Behind the job; nothing is said while nothing was."""
        config = configure()
        folder, job = config.parent / "a-state", a_job()
        leave(folder, AgentState(online=True, jobs={"press": JobPhase(phase="joined")}))
        make_folder(job_folder(str(folder), "press"))
        (job_folder(str(folder), "press") / "job.json").write_bytes(canonical(job))
        windows = [
            Window("r", "u", n, n, np.zeros((1, 30_000), np.float32), 1.0, n) for n in range(20)
        ]
        path = windows_file(str(folder), job)
        with WindowStore(
            path, clock=ManualClock(), max_bytes=1_000_000, max_age_seconds=1e9
        ) as store:
            store.add(windows[:3], "train")
            assert "discarded" not in shown(config, capsys)
            store.add(windows[3:], "train")
            discarded = store.discarded
        assert discarded > 10
        assert f"windows discarded {discarded}" in shown(config, capsys)
        found = body(config, capsys)["predictions"]["press"]  # type: ignore[index]
        assert found["discarded"] == discarded
