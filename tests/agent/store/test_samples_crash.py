# SPDX-License-Identifier: Apache-2.0
"""Kill -9, power cuts and damage: what a commit acknowledged is there, and the agent starts."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.agent.store import power

from fedmill_agent.sources.live import Readings
from fedmill_agent.store.samples import Keep, SampleStore
from fedmill_agent.store.samples_reader import SampleReader
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError

BATCH = 200
WRITER = """
import sys
from pathlib import Path
import numpy as np
from fedmill_agent.sources.live import Readings
from fedmill_agent.store.samples import Keep, SampleStore
from fedmill_shared.clock import SystemClock

path, commits, batch, limit, pages = Path(sys.argv[1]), *map(int, sys.argv[2:6])
store = SampleStore(path, Keep(limit, 1e9), SystemClock())
store._database.execute(f"PRAGMA wal_autocheckpoint={pages}")
recorded = store.recorded()
number = sum(recorded.counts.values()) + recorded.discarded
quality = np.full(batch, 192, np.uint16)
while commits:
    times = np.arange(number, number + batch)
    store.append([Readings("v", times, np.sin(times), quality, number)])
    store.commit()
    number += batch
    print(number, flush=True)
    commits -= 1
"""


def writer(path: Path, commits: int, *, limit: int = 1_000_000, pages: int = 1000) -> list[str]:
    """A program that records for ever if ``commits`` is -1, and says after each what is safe."""
    numbers = [commits, BATCH, limit, pages]
    return [sys.executable, "-c", WRITER, str(path), *map(str, numbers)]


def check(path: Path, said: bytes) -> int:
    """Open what was left and hold it against what was ``said``; how many samples were recorded."""
    whole = said[: said.rfind(b"\n") + 1].split()
    acknowledged = int(whole[-1]) if whole else 0
    with SampleStore(path, Keep(1 << 30, 1e9), ManualClock()) as store:
        assert store.set_aside is None
        found = list(store.read(merged=True))
        recorded = sum(store.counts().values()) + store.discarded
        assert acknowledged <= recorded <= acknowledged + BATCH
        assert recorded % BATCH == 0
        assert store.damaged == 0
        if found:
            times = np.concatenate([each.times_ns for each in found])
            values = np.concatenate([each.values for each in found])
            assert times.tolist() == list(range(store.discarded, recorded))
            assert values.tobytes() == np.sin(times).tobytes()
    return recorded


class TestKilled:
    def test_what_was_acknowledged_is_there(self, tmp_path: Path) -> None:
        """Killed five times amid writing, wherever it was; each start goes on where it ended."""
        path = tmp_path / "s"
        for round_ in range(1, 6):
            said = b""
            with subprocess.Popen(writer(path, -1, pages=20), stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                for _ in range(17 * round_):
                    said += process.stdout.readline()
                process.kill()
                said += process.stdout.read()
            assert process.returncode == -signal.SIGKILL
            check(path, said)


@pytest.mark.skipif(not power.available(), reason="programs cannot be traced here")
class TestPowerCut:
    @pytest.mark.parametrize("seed", range(3))
    def test_nothing_acknowledged_is_lost(self, tmp_path: Path, seed: int) -> None:
        """At 60 moments, also amid checkpoints and discards: whole, and all that was promised."""
        folder = tmp_path / "disk"
        folder.mkdir()
        # More than the ring holds, and a checkpoint every few commits.
        command = writer(folder / "s", 120, limit=120_000, pages=30)
        events = power.traced(command, folder, tmp_path / "trace")
        assert b"".join(e.data for e in events if e.kind == "said").endswith(b"\n24000\n")
        generator = random.Random(seed)
        moments = set(generator.sample(range(len(events)), 60))
        disk = power.Disk()
        found = []
        for number, event in enumerate(events):
            disk.take(event)
            if number in moments:
                power.restored(disk.after_a_cut(generator), tmp_path / "after")
                found.append(check(tmp_path / "after" / "s", disk.said))
        assert len(found) == 60
        assert found[-1] > 10_000


def noise(path: Path) -> None:
    """Nothing is as it was."""
    path.write_bytes(b"noise" * 1000)


def header(path: Path) -> None:
    """The first page is gone."""
    overwrite(path, 0, 4096)


def short(path: Path) -> None:
    """The second half is gone."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def pages(path: Path) -> None:
    """A stretch in the middle is wrong."""
    overwrite(path, path.stat().st_size // 3 // 4096 * 4096, path.stat().st_size // 3)


def overwrite(path: Path, place: int, length: int) -> None:
    """Write nonsense over a stretch."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xa5" * length)


def a_recording(path: Path, commits: int = 50) -> None:
    """One of ``commits`` times a thousand samples."""
    with SampleStore(path, Keep(1 << 30, 1e9), ManualClock()) as store:
        record(store, 0, commits)


def record(store: SampleStore, first: int, last: int) -> None:
    """Commits ``first`` to ``last`` of a thousand samples each."""
    for n in range(first, last):
        times = np.arange(n * 1000, n * 1000 + 1000)
        store.append([Readings("v", times, np.sin(times), np.full(1000, 192, np.uint16), n)])
        store.commit()


class TestDamage:
    @pytest.mark.parametrize("spoil", [noise, header, short, pages])
    def test_a_damaged_file_is_set_aside(
        self, tmp_path: Path, spoil: Callable[[Path], None]
    ) -> None:
        """The recording starts afresh, and says where the old file is."""
        path = tmp_path / "s"
        a_recording(path)
        spoil(path)
        clock = ManualClock(1_800_000_000_000_000_000)
        with SampleStore(path, Keep(1 << 30, 1e9), clock) as store:
            assert store.set_aside == tmp_path / f"s.corrupt-{clock.now_ns()}"
            assert store.set_aside.exists()
            assert store.counts() == {}
            record(store, 0, 3)
            assert store.counts() == {"v": 3000}

    def test_a_large_file_is_not_read_through_at_the_start(self, tmp_path: Path) -> None:
        """A page in its midst is found when it is read, and then set aside with the next commit."""
        path = tmp_path / "s"
        with SampleStore(path, Keep(1 << 30, 1e9), ManualClock()) as store:
            generator = np.random.default_rng(0)
            for n in range(2600):
                times = np.arange(n * 1000, n * 1000 + 1000)
                values = generator.normal(size=1000)
                store.append([Readings("v", times, values, np.full(1000, 192, np.uint16), n)])
                if n % 20 == 19:
                    store.commit()
        assert path.stat().st_size > 20_000_000
        overwrite(path, 8_192_000, 4_096_000)
        with SampleStore(path, Keep(1 << 30, 1e9), ManualClock()) as store:
            assert store.set_aside is None
            with pytest.raises(StoreError, match="malformed"):
                list(store.read())
            record(store, 0, 1)
            assert store.set_aside is not None
            assert store.counts() == {"v": 1000}

    def test_a_chunk_that_is_wrong_is_left_out(self, tmp_path: Path) -> None:
        """Its checksum tells; the others are read."""
        path = tmp_path / "s"
        a_recording(path, 10)
        with SampleStore(path, Keep(1 << 30, 1e9), ManualClock()) as store:
            (data,) = store._database.execute("SELECT data FROM chunks WHERE id = 4").fetchone()
            wrong = bytearray(data)
            wrong[len(wrong) // 2] ^= 1
            store._database.execute("UPDATE chunks SET data = ? WHERE id = 4", (bytes(wrong),))
            assert sum(len(each) for each in store.read()) == 9000
            assert (store.damaged, store.set_aside) == (1, None)

    def test_damage_found_while_running(self, tmp_path: Path) -> None:
        """A page goes bad under an open store: the next commit starts afresh and loses nothing."""
        path = tmp_path / "s"
        with SampleStore(path, Keep(1 << 30, 1e9), ManualClock()) as store:
            record(store, 0, 50)
            store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            overwrite(path, 0, path.stat().st_size)
            store._database.execute("PRAGMA shrink_memory")
            record(store, 50, 52)
            assert store.set_aside is not None
            assert store.counts() == {"v": 2000}
            assert store.acknowledged == 52_000

    def test_only_the_newest_damaged_file_is_kept(self, tmp_path: Path) -> None:
        """A disk that keeps failing does not fill up with wrecks."""
        path, clock = tmp_path / "s", ManualClock()
        for _ in range(3):
            noise(path)
            SampleStore(path, Keep(1 << 30, 1e9), clock).close()
            clock.advance(1)
        assert len(list(tmp_path.glob("s.corrupt-*"))) == 1

    def test_a_folder_that_cannot_be_written_for_a_while(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What could not be started afresh is tried again at the next commit."""
        path = tmp_path / "s"
        with SampleStore(path, Keep(1 << 30, 1e9), ManualClock()) as store:
            record(store, 0, 1)
            store._distrust()
            with monkeypatch.context() as patch:
                patch.setattr("fedmill_agent.store.samples.open_writer", refuse)
                store.append([one(7)])
                for _ in range(2):
                    with pytest.raises(StoreError, match="away"):
                        store.commit()
            assert store.commit() == 1
            assert store.counts() == {"v": 1}

    def test_another_version_wrote_it(self, tmp_path: Path) -> None:
        """It is not touched; the file and the remedy are told."""
        path = tmp_path / "s"
        a_recording(path, 1)
        with SampleStore(path, Keep(1 << 30, 1e9), ManualClock()) as store:
            store._database.execute("PRAGMA user_version = 9")
        for opened in (
            lambda: SampleStore(path, Keep(1 << 30, 1e9), ManualClock()),
            lambda: SampleReader(path),
        ):
            with pytest.raises(StoreError, match="layout 9 of recorded samples"):
                opened()
        assert list(tmp_path.glob("*.corrupt-*")) == []


def one(time: int) -> Readings:
    """One sample."""
    return Readings("v", np.array([time]), np.array([1.0]), np.array([192], np.uint16), time)


def refuse(path: Path) -> None:
    """A disk that has gone."""
    raise StoreError(f"{path}: the disk is away")
