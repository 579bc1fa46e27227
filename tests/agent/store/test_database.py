# SPDX-License-Identifier: Apache-2.0
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedmill_agent.labels.record import Entry, Label, settled
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.signals.windows import Window

BATCH = 7
WRITER = """
import sys
from pathlib import Path
import numpy as np
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import SystemClock
from fedmill_shared.signals.windows import Window

path, batch = Path(sys.argv[1]), int(sys.argv[2])
store = WindowStore(path, clock=SystemClock(), max_bytes=1 << 30, max_age_seconds=1e9)
values = np.ones((3, 500), np.float32)
first = 0
while True:
    windows = [Window("r", "u", n, n, values, 1.0, n) for n in range(first, first + batch)]
    first += store.add(windows, "train")
    print(first, flush=True)
"""


def window(n: int) -> Window:
    """Window number ``n``."""
    return Window("r", "u", n, n, np.full((3, 500), n, np.float32), 1.0, n)


def open_store(path: Path, clock: ManualClock | None = None) -> WindowStore:
    """The store at ``path``."""
    clock = clock or ManualClock()
    return WindowStore(path, clock=clock, max_bytes=1 << 30, max_age_seconds=1e9)


class TestKilled:
    def test_nothing_committed_is_lost_and_nothing_is_half(self, tmp_path: Path) -> None:
        """Kill -9 amid writing: every reported call is whole, and the replay goes on."""
        path = tmp_path / "s"
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(BATCH)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            reported = 0
            while reported < 20 * BATCH:
                reported = int(writer.stdout.readline())
            writer.kill()
            rest = writer.stdout.read().split()
        reported = int(rest[-1]) if rest and rest[-1].isdigit() else reported
        with WindowStore.reader(path) as reader:
            found = reader.counts()["train"]
        assert reported <= found <= reported + BATCH
        assert found % BATCH == 0
        with open_store(path) as store:
            assert store.set_aside is None
            assert store.add([window(n) for n in range(found + 1)], "train") == 1

    def test_a_reader_sees_what_the_writer_commits(self, tmp_path: Path) -> None:
        """Another process reads while this one writes; it cannot write itself."""
        path = tmp_path / "s"
        with open_store(path) as store:
            store.add([window(0)], "train")
            store.add_labels([LabelInterval("r", 0, 9, "ok")])
            code = (
                "import sys; from pathlib import Path\n"
                "from fedmill_agent.store.windows import WindowStore\n"
                "with WindowStore.reader(Path(sys.argv[1])) as store:\n"
                "    print(len(store.load('train')), store.generation(), flush=True)\n"
                "    sys.stdin.readline()\n"
                "    print(len(store.load('train')), store.generation(), flush=True)\n"
            )
            with subprocess.Popen(
                [sys.executable, "-c", code, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                assert child.stdout.readline().split() == ["1", str(store.generation())]
                store.add([window(1)], "train")
                child.stdin.write("\n")
                child.stdin.close()
                assert child.stdout.readline().split() == ["2", str(store.generation())]
            with WindowStore.reader(path) as reader, pytest.raises(sqlite3.OperationalError):
                reader._database.execute("DELETE FROM windows")


class TestDamage:
    @pytest.mark.parametrize("damage", ["noise", "short", "pages"])
    def test_a_damaged_file_is_set_aside(self, tmp_path: Path, damage: str) -> None:
        """The store starts afresh, without labels and decisions, and says where the old file is."""
        path = tmp_path / "s"
        with open_store(path) as store:
            store.add([window(n) for n in range(50)], "train")
            store.add_labels([LabelInterval("r", 0, 99, "ok")])
            store.decide("unit", "u", lambda _: "test")
            old = store.generation("train")
        spoil(path, damage)
        clock = ManualClock(1_800_000_000_000_000_000)
        with open_store(path, clock) as store:
            assert store.set_aside == tmp_path / f"s.corrupt-{clock.now_ns()}"
            assert store.set_aside.exists()
            assert store.counts() == {"train": 0, "validation": 0, "test": 0}
            assert store.decide("unit", "u", lambda _: "train") == "train"
            assert store.add([window(0)], "train") == 1
            assert len(store.load("train")) == 0
            assert store.generation("train") > old

    def test_damage_found_while_running(self, tmp_path: Path) -> None:
        """A page goes bad under an open store: the next write starts afresh and succeeds."""
        path = tmp_path / "s"
        with open_store(path) as store:
            store.add([window(n) for n in range(50)], "train")
            store._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            spoil(path, "pages")
            store._database.execute("PRAGMA shrink_memory")
            store.decide("unit", "u", lambda _: "test")
            assert store.add([window(n) for n in range(60, 70)], "train") == 10
            assert store.set_aside is not None
            assert store.counts()["train"] == 10

    def test_only_the_newest_damaged_file_is_kept(self, tmp_path: Path) -> None:
        """A disk that keeps failing does not fill up with wrecks."""
        path, clock = tmp_path / "s", ManualClock()
        for _ in range(3):
            path.write_bytes(b"noise" * 1000)
            open_store(path, clock).close()
            clock.advance(1)
        assert len(list(tmp_path.glob("s.corrupt-*"))) == 1

    def test_a_reader_names_the_file(self, tmp_path: Path) -> None:
        """Missing or damaged: plain words, and nothing is created or moved."""
        path = tmp_path / "s"
        with pytest.raises(StoreError, match="check that it exists"):
            WindowStore.reader(path)
        assert not path.exists()
        path.write_bytes(b"noise" * 1000)
        with pytest.raises(StoreError, match="restart the agent"):
            WindowStore.reader(path)
        assert path.exists()

    def test_a_newer_layout_is_not_damage(self, tmp_path: Path) -> None:
        """After a downgrade the file is refused, not thrown away."""
        path = tmp_path / "s"
        open_store(path).close()
        database = sqlite3.connect(path)
        database.execute("PRAGMA user_version = 99")
        database.close()
        for opener in (open_store, WindowStore.reader):
            with pytest.raises(StoreError, match="layout 99"):
                opener(path)


def spoil(path: Path, damage: str) -> None:
    """Damage the file in one of three ways."""
    data = bytearray(path.read_bytes())
    if damage == "noise":
        data[:100] = b"x" * 100
    elif damage == "short":
        del data[len(data) // 2 :]
    else:  # every b-tree page but the first gets an impossible header
        for page in range(4096, len(data), 4096):
            data[page : page + 8] = b"\xff" * 8
    path.write_bytes(data)


class TestUpgrade:
    """``recorded/windows-layout-1.sqlite`` was written by fedmill before it kept labels apart."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        """A copy of it."""
        recorded = Path(__file__).parent / "recorded" / "windows-layout-1.sqlite"
        return Path(shutil.copy(recorded, tmp_path / "s"))

    def test_nothing_is_lost(self, old: Path) -> None:
        """Windows, labels in their order, decisions and predictions; and it joins new labels."""
        with WindowStore(old, clock=ManualClock(), max_bytes=1 << 24, max_age_seconds=1e9) as store:
            self._check_old(store)
            assert store.origin("a", 99) == 5
            assert store.decide("unit", "machine a", lambda _: "test") == "train"
            label = Label(unit="machine b", class_="good", start=0, end="1970-01-01T00:00:01")
            store.add_truths([Entry(settled(label, "t"), 1)], [False], position=1)
            assert store.load("train").texts == ["good", "worn", "good"] + ["good"] * 3
        with WindowStore.reader(old) as reader:
            assert reader.labels_position == 1

    def test_readers_say_who_brings_it_up_to_date(self, old: Path) -> None:
        """They cannot write themselves."""
        with pytest.raises(StoreError, match=r"layout 1 .*writes 3 \(start the agent"):
            WindowStore.reader(old)

    @pytest.mark.parametrize("statements", range(4))
    def test_killed_amid_it(self, old: Path, statements: int) -> None:
        """Kill -9 after any statement: the old file or the new one, never something between."""
        code = (
            "import os, signal, sqlite3, sys\n"
            "from fedmill_agent.store import database\n"
            "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "connection.execute('PRAGMA journal_mode=WAL')\n"
            "left = [int(sys.argv[2])]\n"
            "def told(statement):\n"
            "    if statement.startswith(('ALTER', 'CREATE', 'PRAGMA user_version =', 'COMMIT')):\n"
            "        left[0] -= 1\n"
            "        if left[0] < 0:\n"
            "            os.kill(os.getpid(), signal.SIGKILL)\n"
            "connection.set_trace_callback(lambda statement: told(statement.strip()))\n"
            "database.transact(connection, database.upgrade)\n"
        )
        command = [sys.executable, "-c", code, str(old), str(statements)]
        assert subprocess.run(command, check=False).returncode == -9
        with sqlite3.connect(old) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        connection.close()
        assert not {"truths", "settings"} & tables
        with open_store(old) as store:
            assert store.set_aside is None
            self._check_old(store)

    @staticmethod
    def _check_old(store: WindowStore) -> None:
        found = store.load("train")
        assert found.texts == ["good", "worn", "good", "worn", "worn"]
        assert found.runs == ["a"] * 3 + ["b"] * 2
        assert found.inputs[:, 0, 0].tolist() == [97, 107, 117, 98, 108]
        assert store.load("test").numbers.tolist() == [16.0, 8.0, 0.0]
        assert store.counts() == {"train": 6, "validation": 0, "test": 3}
        [prediction] = store.predictions()
        assert (prediction.version, prediction.outputs.tolist()) == ("v1", [0.25, 0.75])


class TestUpgradeFromLayout2:
    """``recorded/windows-layout-2.sqlite``: predictions did not say yet how sure they are."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Path:
        """A copy of it."""
        recorded = Path(__file__).parent / "recorded" / "windows-layout-2.sqlite"
        return Path(shutil.copy(recorded, tmp_path / "s"))

    def test_nothing_is_lost(self, old: Path) -> None:
        """What predictions did not say then is unknown; new ones say it, and alarms are kept."""
        with open_store(old) as store:
            found = store.predictions()
            assert [(p.id, p.end_ns, p.outputs.tolist()) for p in found] == [
                (n + 1, 9 + 10 * n, [n, 0.5]) for n in range(3)
            ]
            assert {(p.unit, p.good_share, p.number, p.confidence) for p in found} == {
                ("", 1.0, 0, None)
            }
            assert {(p.low, p.high, p.plausible) for p in found} == {(None, None, None)}
            assert store.load("train").texts == ["worn"] * 3
            assert store.labels_position == 4
            sure = Prediction("a", 39, "v2", found[0].outputs, 7, confidence=0.9, plausible=("x",))
            store.add_predictions([sure])
            store.add_alarm("hot", "raised", 39, "{}")
            assert store.predictions(1)[0].plausible == ("x",)
            assert [row.name for row in store.alarms()] == ["hot"]
        with WindowStore.reader(old) as reader:
            assert reader.prediction_count() == 4

    def test_readers_say_who_brings_it_up_to_date(self, old: Path) -> None:
        """They cannot write themselves."""
        with pytest.raises(StoreError, match=r"layout 2 .*writes 3 \(start the agent"):
            WindowStore.reader(old)
