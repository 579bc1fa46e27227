# SPDX-License-Identifier: Apache-2.0
"""Disks that are full, read-only or damaged: told in one line, survived where that is possible."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.faults.federation import FaultyFleet, faulty
from tests.small_disk import MIB, SmallDisk, small_disk
from tests.system.fleet import COORDINATOR, a_job

from fedmill_shared.errors import StoreError

pytestmark = [pytest.mark.system, pytest.mark.drill]

DAEMONS = (COORDINATOR, "agent-1")
A_SHORT_JOB = a_job(rounds=2, minimum=1)


@pytest.fixture
def disk() -> Iterator[Callable[[Path, int], SmallDisk]]:
    """Make a small file system that is gone when the test has ended."""
    with ExitStack() as stack:
        yield lambda folder, size: stack.enter_context(small_disk(folder, size))


@contextmanager
def on_small_disk(
    tmp_path: Path, name: str, disk: Callable[[Path, int], SmallDisk], **settings: object
) -> Iterator[tuple[FaultyFleet, SmallDisk]]:
    """A federation of one agent in which the state of ``name`` has a disk of its own."""
    job = a_job(deadline_seconds=20.0, minimum=1, **settings)
    with faulty(tmp_path / "fleet", job, agents=1) as fleet:
        yield fleet, disk(fleet.state_folder(name), 24 * MIB)


def one_line(fleet: FaultyFleet, name: str) -> str:
    """The last line that a program wrote, which has no traceback."""
    text = fleet.log_of(name)
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


def complaints(fleet: FaultyFleet, name: str) -> list[str]:
    """Lines in which a program says that there is no room, for a file or for its database."""
    words = ("No space left", "disk is full")
    return [line for line in fleet.log_of(name).splitlines() if any(w in line for w in words)]


class TestFull:
    @pytest.mark.parametrize(("name", "lines"), [(COORDINATOR, 2), ("agent-1", 3)])
    def test_in_the_midst_of_a_job(
        self, tmp_path: Path, disk: Callable[[Path, int], SmallDisk], name: str, lines: int
    ) -> None:
        """It says so and stays; with room again it goes on where it was, and nothing is lost."""
        with on_small_disk(tmp_path, name, disk, rounds=60) as (fleet, small):
            fleet.start(*DAEMONS)
            fleet.wait("two rounds", lambda: fleet.closed() >= 2)
            small.fill()
            fleet.wait("words about it", lambda: len(complaints(fleet, name)) >= lines)
            assert "free" in complaints(fleet, name)[0]
            assert fleet.closed() < 60
            small.empty()
            fleet.finish()
            fleet.check_books()

    @pytest.mark.parametrize("name", DAEMONS)
    def test_from_the_start(
        self, tmp_path: Path, disk: Callable[[Path, int], SmallDisk], name: str
    ) -> None:
        """One line and no traceback; with room again the next start does the job."""
        with on_small_disk(tmp_path, name, disk) as (fleet, small):
            small.fill()
            fleet.start(name)
            if name == COORDINATOR:  # without its database there is nothing to stay for
                assert fleet.end_of(name) == StoreError.exit_code
            fleet.wait("a word of it", lambda: complaints(fleet, name) != [])
            small.empty()
            fleet.start(*(each for each in DAEMONS if not fleet.runs(each)))
            fleet.finish()
            fleet.check_books()


class TestReadOnly:
    @pytest.mark.parametrize("name", DAEMONS)
    def test_from_the_start(
        self, tmp_path: Path, disk: Callable[[Path, int], SmallDisk], name: str
    ) -> None:
        """One line that names the folder and what to do, and the exit code of a store."""
        with on_small_disk(tmp_path, name, disk) as (fleet, small):
            small.protect(read_only=True)
            fleet.start(name)
            assert fleet.end_of(name) == StoreError.exit_code
            line = one_line(fleet, name)
            assert str(small.folder) in line
            assert "right to write" in line or "chown" in line


def overwritten(path: Path, part: str) -> None:
    """Damage the header of a file or a page in its midst."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(0 if part == "header" else size // 2 // 4096 * 4096)
        file.write(b"\xa5" * 4096)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a federation after its job: run once, damaged in many ways."""
    folder = tmp_path_factory.mktemp("ended") / "fleet"
    with faulty(folder, A_SHORT_JOB, agents=1, start=DAEMONS) as fleet:
        fleet.finish()
        for name in DAEMONS:
            fleet.end(name)
    return folder


class TestDamaged:
    @pytest.fixture
    def ended(self, left: Path, tmp_path: Path) -> Iterator[FaultyFleet]:
        """A copy of that federation, whose coordinator and agent have stopped."""
        folder = shutil.copytree(left, tmp_path / "fleet")
        with faulty(folder, A_SHORT_JOB, agents=1) as fleet:
            yield fleet

    @pytest.mark.parametrize("part", ["header", "page"])
    def test_database_of_the_coordinator(self, ended: FaultyFleet, part: str) -> None:
        """One line with the file and its remedy: what was decided must not be forgotten."""
        database = ended.state_folder(COORDINATOR) / "fedmill.sqlite"
        ended.store.close()
        overwritten(database, part)
        ended.start(COORDINATOR)
        assert ended.end_of(COORDINATOR) == StoreError.exit_code
        line = one_line(ended, COORDINATOR)
        assert str(database) in line
        assert "backup" in line

    @pytest.mark.parametrize("part", ["header", "page"])
    def test_windows_of_an_agent(self, ended: FaultyFleet, part: str) -> None:
        """Set aside and told; the recordings are read again into a fresh file."""
        with ended.windows("agent-1") as store:
            windows = store.counts()
        (database,) = ended.state("agent-1").glob("jobs/*/windows-*.sqlite")
        overwritten(database, part)
        ended.start(COORDINATOR, "agent-1")
        ended.wait("both", lambda: len(ended.events("agent-1", "job.joined")) == 2)
        assert ended.events("agent-1", "store.set_aside") != []
        assert len(list(database.parent.glob("*.corrupt-*"))) >= 1
        with ended.windows("agent-1") as store:
            assert store.counts() == windows
        assert "Traceback" not in ended.log_of("agent-1")

    @pytest.mark.parametrize("name", ["residual.msgpack", "outbox", "active.msgpack", "*.blob"])
    def test_files_of_an_agent(self, ended: FaultyFleet, name: str) -> None:
        """Whatever file is noise after a crash, the agent starts, and gets its model again."""
        for path in spoilt(ended.state("agent-1") / "jobs" / ended.job.name, name):
            path.write_bytes(b"\xa5" * 999)
        ended.start(COORDINATOR, "agent-1")
        ended.wait("the model", lambda: serves(ended))
        assert "Traceback" not in ended.log_of("agent-1")


def serves(fleet: FaultyFleet) -> bool:
    """Whether the agent that runs now says that a version scores."""
    status = fleet.status("agent-1")
    phase = status.state.jobs.get(fleet.job.name)
    told = phase.install if phase is not None else None
    return status.pid == fleet.process("agent-1").pid and told is not None and bool(told.serving)


def spoilt(folder: Path, name: str) -> list[Path]:
    """Files to damage; a parcel is made where none waits."""
    if name == "outbox":
        return [folder / "outbox" / f"{'a' * 64}.update"]
    paths = list(folder.rglob(name))
    assert paths
    return paths
