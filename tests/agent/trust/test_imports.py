# SPDX-License-Identifier: Apache-2.0
"""The bundle that is being installed: which one, for how long, and what comes out of it."""

import os
from pathlib import Path

import pytest
from tests.agent.kit import Journal
from tests.trusted import a_release, digest_of

from fedmill_agent.trust import imports
from fedmill_agent.trust.imports import Imports
from fedmill_agent.trust.places import TrustPlaces
from fedmill_shared.errors import FrameError
from fedmill_shared.files import sha256
from fedmill_shared.messages import BlobRequest, InstallReport, JobNotice, encode

BLOB = b"b" * 300_000


class Rig:
    """A folder of bundles, as the command line fills it."""

    def __init__(self, folder: Path) -> None:
        self.places = TrustPlaces(folder)
        self.journal = Journal()
        self.imports = Imports(self.places, self.journal)

    def lay(self, name: str, *, age: int = 0, version: int = 0) -> Path:
        """Hand a bundle over, so many seconds before a certain moment, with such a timestamp."""
        folder = self.places.imports / name
        for part in ("notices", "blobs", "metadata"):
            (folder / part).mkdir(parents=True)
        if version:
            told = b'{"signed": {"version": %d}}' % version
            (folder / "metadata" / "timestamp.json").write_bytes(told)
        (folder / "notices" / "press.release").write_bytes(encode(a_release(1)))
        text = JobNotice(job="press", text=b"text", state="running")
        (folder / "notices" / "press.job").write_bytes(encode(text))
        (folder / "blobs" / sha256(BLOB)).write_bytes(BLOB)
        os.utime(folder, (1_700_000_000 - age, 1_700_000_000 - age))
        return folder

    def taken(self, name: str = "one") -> Path:
        """Hand a bundle over, and take it up."""
        folder = self.lay(name)
        assert self.imports.look() == folder
        assert len(list(self.imports.notices())) == 2
        return folder

    def finish(self, report: InstallReport | None, *, wanted: bool = True) -> bool:
        """Ask whether it is over."""
        return self.imports.finish({"press": report}, lambda _: wanted)


def report(state: str, release: int = 1) -> InstallReport:
    """What a seat says of a release."""
    return InstallReport(version=digest_of("a"), state=state, release=release)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Nothing was handed over yet."""
    return Rig(tmp_path)


class TestLooking:
    def test_there_may_be_none(self, rig: Rig) -> None:
        """Nor a folder for them."""
        assert rig.imports.look() is None
        assert list(rig.imports.notices()) == []
        assert not rig.imports.has(sha256(BLOB))
        assert not rig.finish(None)

    def test_each_is_found_once(self, rig: Rig) -> None:
        """The next look finds nothing new."""
        folder = rig.lay("one")
        assert rig.imports.look() == folder
        assert rig.imports.look() is None
        assert rig.imports.folder == folder

    def test_drafts_and_files_are_none(self, rig: Rig) -> None:
        """Whatever else lies there."""
        rig.lay(".draft")
        (rig.places.imports / "file").write_bytes(b"")
        (rig.places.imports / "lost").symlink_to("nowhere")
        assert rig.imports.look() is None

    def test_of_several_the_newest_counts(self, rig: Rig) -> None:
        """The others are of no use any more."""
        older, newer = rig.lay("a", age=60), rig.lay("b")
        assert rig.imports.look() == newer
        assert not older.exists()

    @pytest.mark.parametrize("age", [-3600, 3600])
    def test_one_that_comes_later_counts_whatever_the_clock_said(self, rig: Rig, age: int) -> None:
        """Gateways begin in 1970 now and then."""
        first = rig.taken("first")
        second = rig.lay("second", age=age)
        assert rig.imports.look() == second
        assert not first.exists()
        assert rig.imports.look() is None

    def test_the_newer_timestamp_counts_more_than_the_clock(self, rig: Rig) -> None:
        """Both were handed over while the agent stood still; between them the clock was set."""
        older, newer = rig.lay("a", version=9), rig.lay("b", version=10, age=3600)
        assert rig.imports.look() == newer
        assert not older.exists()

    def test_an_older_one_does_not_end_a_newer_one(self, rig: Rig) -> None:
        """The sticks were taken in the wrong order, one right behind the other; it is told once."""
        newer = rig.lay("b", version=10)
        assert rig.imports.look() == newer
        assert rig.journal.entries == []
        older = rig.lay("a", version=9, age=-60)
        assert rig.imports.look() is None
        assert (rig.imports.folder, older.exists()) == (newer, False)
        assert rig.imports.look() is None
        [told] = rig.journal.of("bundle.passed_over")
        assert (told["bundles"], told["timestamp"], told["known"]) == (1, 9, 10)

    def test_an_older_one_that_cannot_be_removed_is_told_once(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not each time that somebody looks."""
        monkeypatch.setattr(imports, "remove", lambda _: None)
        rig.lay("b", version=10)
        rig.imports.look()
        rig.lay("a", version=9)
        for _ in range(3):
            assert rig.imports.look() is None
        assert len(rig.journal.of("bundle.passed_over")) == 1

    def test_one_that_could_not_be_taken_is_found_again(self, rig: Rig) -> None:
        """The disk was full."""
        folder = rig.lay("one")
        assert rig.imports.look() == folder
        rig.imports.again()
        assert rig.imports.look() == folder

    def test_a_folder_that_cannot_be_listed_is_looked_at_later(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that fails for a moment ends no daemon."""
        rig.lay("one")

        def fail(_path: Path) -> bool:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "is_dir", fail)
            assert rig.imports.look() is None
        assert rig.imports.look() is not None


class TestFinishing:
    @pytest.mark.parametrize(
        ("told", "over"),
        [
            (None, False),
            (report("committed", 0), False),
            (report("downloading"), False),
            (report("shadowing"), False),
            (report("committed"), True),
            (report("rejected"), True),
            (report("rolled_back"), True),
            (report("downloading", 2), True),
        ],
    )
    def test_it_stays_until_the_last_word(
        self, rig: Rig, told: InstallReport | None, *, over: bool
    ) -> None:
        """Or until something newer has taken its place."""
        folder = rig.taken()
        assert rig.finish(told) is over
        assert folder.exists() is not over

    def test_nobody_says_anything_of_a_job_that_is_not_wanted(self, rig: Rig) -> None:
        """It would lie there for ever."""
        folder = rig.taken()
        assert rig.finish(None, wanted=False)
        assert not folder.exists()

    def test_it_may_be_dropped_whatever_became_of_it(self, rig: Rig) -> None:
        """After days, for instance."""
        folder = rig.taken()
        rig.imports.drop()
        assert not folder.exists()
        assert rig.imports.folder is None
        rig.imports.drop()

    def test_one_that_cannot_be_removed_is_not_taken_for_a_new_one(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It would be installed, and checked by a child, over and over."""
        folder = rig.taken()
        monkeypatch.setattr(imports, "remove", lambda _: None)
        assert rig.finish(report("committed"))
        assert folder.exists()
        assert rig.imports.look() is None


class TestReading:
    def test_jobs_come_before_releases(self, rig: Rig) -> None:
        """A release needs a seat."""
        rig.lay("one")
        rig.imports.look()
        kinds = [type(each).__name__ for each in rig.imports.notices()]
        assert kinds == ["JobNotice", "ReleaseNotice"]

    def test_too_many_notices_are_refused(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are read on the loop of the daemon."""
        rig.lay("one")
        rig.imports.look()
        monkeypatch.setattr(imports, "MOST_NOTICES", 1)
        with pytest.raises(FrameError, match="2 notices, at most 1"):
            list(rig.imports.notices())

    def test_blocks_come_out_of_it(self, rig: Rig) -> None:
        """Those that are asked for, whole."""
        rig.taken()
        request = BlobRequest(job="press", blob=sha256(BLOB), missing=[0, 1])
        blocks = rig.imports.blocks(request)
        assert [each.index for each in blocks] == [0, 1]
        assert BLOB.startswith(b"".join(each.payload for each in blocks))

    def test_blocks_that_it_does_not_have(self, rig: Rig) -> None:
        """Beyond the end of a blob, or of another one."""
        rig.taken()
        beyond = BlobRequest(job="press", blob=sha256(BLOB), missing=[10_000])
        with pytest.raises(FrameError):
            rig.imports.blocks(beyond)
        other = BlobRequest(job="press", blob=digest_of("f"), missing=[0])
        assert rig.imports.blocks(other) == []
