# SPDX-License-Identifier: Apache-2.0
"""What agents told of their audit logs is kept, and a step back is an alarm."""

from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs
from tests.records import Records

from fedmill_coordinator.anchors import TOLD_SECONDS, Anchors
from fedmill_shared.audit.entry import Head
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError

FIVE, SEVEN = Head(5, "5" * 64), Head(7, "7" * 64)


@pytest.fixture
def audit() -> Records:
    """What the coordinator records."""
    return Records()


@pytest.fixture
def clock() -> ManualClock:
    """Set by hand."""
    return ManualClock()


@pytest.fixture
def anchors(tmp_path: Path, audit: Records, clock: ManualClock) -> Anchors:
    """None told yet."""
    return Anchors(tmp_path / "heads", structlog.get_logger(), audit, clock)


def test_furthest_is_kept(anchors: Anchors, tmp_path: Path) -> None:
    """Also for the next process."""
    assert anchors.kept("gw1") is None
    for head in (FIVE, SEVEN, SEVEN):
        anchors.hear("gw1", str(head))
    assert anchors.kept("gw1") == SEVEN
    assert Anchors(tmp_path / "heads", structlog.get_logger()).kept("gw1") == SEVEN
    assert anchors.kept("gw2") is None


def test_agent_that_tells_none(anchors: Anchors, tmp_path: Path) -> None:
    """An older one: nothing is kept, and nothing is wrong."""
    anchors.hear("gw1", "")
    assert not (tmp_path / "heads").exists()


@pytest.mark.parametrize("told", [FIVE, Head(7, "a" * 64)])
def test_step_back_is_an_alarm_once(anchors: Anchors, audit: Records, told: Head) -> None:
    """Fewer records, or another one at the same number; what was kept stays."""
    anchors.hear("gw1", str(SEVEN))
    with capture_logs() as logs:
        for _ in range(3):
            anchors.hear("gw1", str(told))
    assert [(each["event"], each["kept"], each["told"]) for each in logs] == [
        ("audit.shortened", str(SEVEN), str(told))
    ]
    assert audit == [("gw1", "audit.shortened", "gw1", str(SEVEN), str(told))]
    assert anchors.kept("gw1") == SEVEN


def test_who_goes_back_and_forth_is_an_alarm_an_hour(
    anchors: Anchors, audit: Records, clock: ManualClock
) -> None:
    """A thousand would push everything else out of our own log, which is bounded."""
    with capture_logs() as logs:
        for number in range(100):
            anchors.hear("gw1", str(Head(10 + number, "a" * 64)))
            anchors.hear("gw1", str(Head(1 + number % 9, "b" * 64)))
    assert [each["event"] for each in logs] == ["audit.shortened"]
    assert len(audit) == 1
    clock.advance(TOLD_SECONDS)
    anchors.hear("gw1", str(FIVE))
    assert len(audit) == 2


def test_earlier_ones_are_kept_too(anchors: Anchors) -> None:
    """Whether a longer log is the same one, the furthest alone does not tell."""
    for head in (FIVE, SEVEN):
        anchors.hear("gw1", str(head))
    assert anchors.heads("gw1") == [FIVE, SEVEN]


def test_of_many_the_older_become_sparse(anchors: Anchors, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and the newest stay, in order and within the bound."""
    monkeypatch.setattr("fedmill_coordinator.anchors.MOST_HEADS", 8)
    for number in range(1, 101):
        anchors.hear("gw1", str(Head(number, "a" * 64)))
    kept = [head.n for head in anchors.heads("gw1")]
    assert (kept[0], kept[-4:]) == (1, [97, 98, 99, 100])
    assert kept == sorted(kept)
    assert len(kept) <= 8


def test_forgotten_by_a_command_beside_the_daemon(anchors: Anchors, tmp_path: Path) -> None:
    """The next head is taken as it comes."""
    anchors.hear("gw1", str(SEVEN))
    Anchors(tmp_path / "heads", structlog.get_logger()).forget("gw1")
    with capture_logs() as logs:
        anchors.hear("gw1", str(FIVE))
    assert logs == []
    assert anchors.kept("gw1") == FIVE


def test_what_is_unchanged_is_not_written_again(
    anchors: Anchors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents tell it every five seconds."""
    anchors.hear("gw1", str(SEVEN))
    monkeypatch.setattr("fedmill_coordinator.anchors.write_atomic", None)
    anchors.hear("gw1", str(SEVEN))


def test_damaged_file(anchors: Anchors, tmp_path: Path) -> None:
    """One error that names it."""
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "gw1").write_bytes(b"\xff")
    with pytest.raises(StoreError, match="heads/gw1"):
        anchors.kept("gw1")
