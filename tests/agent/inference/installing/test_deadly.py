# SPDX-License-Identifier: Apache-2.0
"""A version that has the agent killed is refused in the end: it is not tried after each restart."""

from pathlib import Path

import pytest
from tests.agent.inference.installing.rig import Rig, near

from fedmill_agent.inference.installing.ledger import MOST_ENDED, SURVIVED_SECONDS
from fedmill_agent.starts import MOST_FAILURES
from fedmill_shared.errors import StoreError
from fedmill_shared.messages import ReleaseNotice, VersionNotice

FEW = 4


def trying(folder: Path, **serving: int) -> tuple[Rig, VersionNotice, VersionNotice]:
    """An agent in the midst of a release, what it served before, and what it tries."""
    rig = Rig(folder, **{"shadow_windows": FEW, "soak_windows": FEW, **serving})
    first = rig.follow()
    notice = rig.version(near(rig.versions.newest.vector))
    rig.release(notice)
    assert rig.told == ("shadowing", "")
    return rig, first, notice


class TestKilled:
    def test_again_and_again_while_it_is_tried(self, tmp_path: Path) -> None:
        """What served serves on, and it is not tried under this number any more."""
        rig, first, notice = trying(tmp_path)
        for _ in range(MOST_ENDED):
            rig.start()
            assert rig.told == ("shadowing", "")
        rig.start()
        assert rig.told == ("rejected", "graph")
        assert "killed 3 times in a row" in rig.report.reason
        assert rig.scores_with(first)
        rig.release(notice)
        rig.start()
        assert rig.told == ("rejected", "graph")
        assert len(rig.live(2 * FEW)) == 2 * FEW
        assert rig.scores_with(first)

    def test_it_is_refused_before_there_is_a_safe_mode(self, tmp_path: Path) -> None:
        """In which nothing would be scored, by the model that served before either."""
        rig, _, _ = trying(tmp_path)
        killed = 0
        while rig.told[0] != "rejected":
            killed += 1
            rig.start()
        assert killed < MOST_FAILURES

    def test_again_and_again_while_it_serves_on_trial(self, tmp_path: Path) -> None:
        """It is gone back from before it is loaded once more."""
        rig, first, notice = trying(tmp_path)
        rig.live(FEW)
        assert rig.told == ("soaking", "")
        for _ in range(MOST_ENDED):
            rig.start()
            assert rig.scores_with(notice)
        rig.start()
        assert rig.told == ("rolled_back", "graph")
        assert rig.scores_with(first)

    def test_a_machine_that_is_switched_off_each_night(self, tmp_path: Path) -> None:
        """It lived in between: nothing speaks against what it tries."""
        rig, _, notice = trying(tmp_path)
        for _ in range(3 * MOST_ENDED):
            rig.start()
            rig.clock.advance(SURVIVED_SECONDS)
            rig.deployment.tick()
        rig.live(FEW)
        rig.live(FEW)
        assert rig.told == ("committed", "")
        assert rig.scores_with(notice)

    def test_an_agent_that_is_stopped_in_good_order(self, tmp_path: Path) -> None:
        """An upgrade, say; and nothing is written where nothing was counted."""
        rig, _, _ = trying(tmp_path)
        for _ in range(3 * MOST_ENDED):
            rig.deployment.close()
            rig.start()
        assert rig.told == ("shadowing", "")

    def test_before_anything_was_tried(self, tmp_path: Path) -> None:
        """A large version on a bad line takes many days, and is to blame for no power cut."""
        rig = Rig(tmp_path)
        rig.follow()
        notice = rig.version(near(rig.versions.newest.vector))
        rig.deployment.release(ReleaseNotice(job="press", release=1, notice=notice), retained=True)
        for _ in range(3 * MOST_ENDED):
            rig.start()
            assert rig.told == ("offered", "")
        rig.deployment.tick()
        rig.answer()
        assert rig.scores_with(notice)

    def test_a_disk_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is told, and goes on."""
        rig, first, _ = trying(tmp_path)

        def full(_path: Path, _data: bytes) -> None:
            raise StoreError("slots.msgpack: cannot be written: no space left")

        monkeypatch.setattr("fedmill_agent.inference.installing.states.write_atomic", full)
        rig.start()
        assert rig.journal.of("install.unwritten")
        assert rig.scores_with(first)
