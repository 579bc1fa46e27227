# SPDX-License-Identifier: Apache-2.0
"""The desk where the disk is slow or full, bundles come to nothing, or somebody sends nonsense."""

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.agent.trust import test_desk
from tests.agent.trust.test_desk import DAY, Rig, a_job, signing
from tests.trusted import a_release

from fedmill_agent.background import Background
from fedmill_agent.trust import desk as module
from fedmill_agent.trust import incoming
from fedmill_agent.trust.desk import BUNDLE_SECONDS, LONGEST_REST, RETRY_SECONDS
from fedmill_agent.trust.incoming import KEPT
from fedmill_agent.trust.verified import Verified
from fedmill_shared.errors import StoreError
from fedmill_shared.trust import METADATA_LIMIT

lay = test_desk.TestBundles().bundle


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A desk that has checked nothing yet."""
    return Rig(tmp_path)


class Slow(Background):
    """A disk that does nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], object]] = []

    def submit(self, work, done, failed) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Put it off."""
        self.waiting.append(lambda: super(Slow, self).submit(work, done, failed))

    def work(self) -> None:
        """Do what waits."""
        while self.waiting:
            self.waiting.pop(0)()


class TestSlowDisk:
    def test_a_bundle_that_is_still_being_read_is_not_done(self, rig: Rig) -> None:
        """It would be removed while it is read, and nobody would hear of it."""
        disk = rig.desk._disk = Slow()
        folder = lay(rig, a_release(), a_job())
        rig.says = signing(a_release(), a_job(), until_ns=rig.clock.now_ns() + DAY)
        for _ in range(30):
            rig.wait(1.0)
        assert folder.exists()
        disk.work()
        rig.wait(1.0)
        disk.work()
        assert rig.taken == [("job", a_job()), ("release", a_release())]

    def test_a_flood_of_metadata_waits_in_no_memory(self, rig: Rig) -> None:
        """Who sends faster than the disk takes has most of it dropped, told of once a minute."""
        disk = rig.desk._disk = Slow()
        with capture_logs() as logs:
            for number in range(1, 200):
                data = b'{"signed": {"version": %d}}' % number
                rig.hear("snapshot.json", data.ljust(METADATA_LIMIT))
        assert [(each["event"], each["file"]) for each in logs] == [
            ("trust.crowded", "snapshot.json")
        ]
        assert len(disk.waiting) == 1
        disk.work()
        assert len(list((rig.places.incoming / "metadata").iterdir())) == KEPT
        rig.sign(a_release())
        disk.work()
        rig.wait(1.0)
        assert rig.desk.admits(a_release())

    def test_of_one_file_the_newest_is_written(self, rig: Rig) -> None:
        """The rest was overtaken before the disk had time for it."""
        disk = rig.desk._disk = Slow()
        for number in range(1, 1000):
            rig.hear("timestamp.json", b'{"signed": {"version": %d}}' % number)
        path = rig.places.incoming / "metadata" / "timestamp.json"
        written = 0
        while disk.waiting:
            disk.waiting.pop(0)()
            written += 1
        assert written == 2
        assert path.read_bytes() == b'{"signed": {"version": 999}}'

    def test_what_cannot_be_written_holds_up_nothing_behind_it(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The disk fails for a moment."""
        disk = rig.desk._disk = Slow()
        rig.hear("snapshot.json", b'{"signed": {"version": 1}}')
        rig.hear("timestamp.json", b'{"signed": {"version": 1}}')

        def fail(*_: object) -> None:
            raise StoreError("trust/incoming: Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(incoming, "write_atomic", fail)
            disk.waiting.pop(0)()
        disk.work()
        names = [path.name for path in (rig.places.incoming / "metadata").iterdir()]
        assert names == ["timestamp.json"]


class TestFullDisk:
    def test_a_bundle_is_taken_once_there_is_room(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Until then it lies where it is, and the fault is told now and then."""

        def full(*_: object) -> None:
            raise StoreError("trust/incoming: No space left on device")

        folder = lay(rig, a_release())
        rig.says = signing(a_release(), until_ns=rig.clock.now_ns() + DAY)
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(module, "keep_all", full)
            rig.desk = rig.open()
            for _ in range(60):
                rig.wait(1.0)
        told = [each["event"] for each in logs]
        assert "bundle.done" not in told
        assert 2 <= told.count("trust.failed") <= 1 + 60 / RETRY_SECONDS
        assert folder.exists()
        for _ in range(3):
            rig.wait(RETRY_SECONDS)
        assert rig.taken == [("release", a_release())]


class TestNothingComesOfIt:
    def test_a_bundle_is_let_go_of_after_two_days(self, rig: Rig) -> None:
        """Its job does not fit this agent; its gigabytes are needed for something else."""
        folder = lay(rig, a_release())
        rig.says = signing(a_release(), until_ns=rig.clock.now_ns() + 30 * DAY)
        rig.wait(1.0)
        rig.wait(1.0)
        rig.wait(BUNDLE_SECONDS - 60)
        assert folder.exists()
        with capture_logs() as logs:
            rig.wait(120)
        assert not folder.exists()
        assert [each["event"] for each in logs] == ["bundle.refused"]

    def test_a_job_that_nobody_here_wants_is_not_waited_for(self, rig: Rig) -> None:
        """A stick for the whole plant goes through many hands."""
        folder = lay(rig, a_release(job="unwanted"))
        rig.says = signing(a_release(job="unwanted"), until_ns=rig.clock.now_ns() + DAY)
        for _ in range(3):
            rig.wait(6.0)
        assert not folder.exists()


class TestNonsense:
    def runs(self, rig: Rig, seconds: int) -> int:
        """How often a child was begun in this time, while somebody sends every second."""
        before = rig.runs
        for number in range(seconds):
            rig.hear("timestamp.json", b'{"signed": {"version": %d}}' % (number + 1))
            rig.wait(1.0)
        return rig.runs - before

    def test_is_checked_ever_more_seldom(self, rig: Rig) -> None:
        """Each check takes a second of a small processor."""
        rig.says = Verified(word="refused", error="not signed by whom we trust")
        self.runs(rig, 120)
        assert 1 <= self.runs(rig, int(10 * LONGEST_REST)) <= 11

    def test_does_not_keep_out_what_is_signed(self, rig: Rig) -> None:
        """It is checked as soon as the rest is over, and all is as ever."""
        rig.says = Verified(word="refused", error="not signed by whom we trust")
        self.runs(rig, 120)
        rig.says = signing(a_release(), until_ns=rig.clock.now_ns() + DAY)
        self.runs(rig, int(LONGEST_REST) + 1)
        assert rig.desk.admits(a_release())
        assert self.runs(rig, 10) >= 9
