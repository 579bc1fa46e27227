# SPDX-License-Identifier: Apache-2.0
"""What an agent says of itself, and when."""

import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from fedmill_agent import heartbeat as heartbeat_module
from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig, AgentSection
from fedmill_agent.heartbeat import HEARTBEAT_SECONDS, NEWS_SECONDS, Heartbeat
from fedmill_agent.reloading import Reloaded
from fedmill_agent.status import read_status, write_status
from fedmill_agent.store.space import DiskStatus
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.messages import JobPhase
from fedmill_shared.protocol import NEWEST

HEAD = f"7:{'a' * 64}"


class Body:
    """What a heartbeat asks: everything as a test wants it."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.said: list[tuple[str, Any]] = []
        self.jobs = {"press": JobPhase(phase="joined")}
        self.file = SimpleNamespace(outcome=Reloaded(count=2))
        self.line = SimpleNamespace(
            connected=True,
            send=lambda kind, message: self.said.append((kind, message)),
            rights=None,
            wonder=lambda: None,
        )
        self.config = AgentConfig(
            agent=AgentSection(id="a", state=str(folder), labels={"line": "A"})
        )
        self.disk = SimpleNamespace(status=lambda: None)
        parts: Any = (self.line, SimpleNamespace(phases=lambda: self.jobs, drifts=dict))
        rest: Any = {
            "trainer": SimpleNamespace(pid=4711),
            "plant": SimpleNamespace(disk=self.disk, standings=dict),
            "file": self.file,
            "audit": SimpleNamespace(head=lambda: HEAD, failed=3),
        }
        self.heartbeat = Heartbeat(self.config, self.clock, *parts, **rest)


@pytest.fixture
def body(tmp_path: Path) -> Body:
    """One that the broker has."""
    return Body(tmp_path)


class TestDue:
    def test_at_once_and_then_every_few_seconds(self, body: Body) -> None:
        """Counted from the last one, whenever that was."""
        assert body.heartbeat.due()
        body.heartbeat.beat()
        assert not body.heartbeat.due()
        body.clock.advance(HEARTBEAT_SECONDS - 0.1)
        body.heartbeat.beat()
        body.clock.advance(HEARTBEAT_SECONDS - 0.1)
        assert not body.heartbeat.due()
        body.clock.advance(0.1)
        assert body.heartbeat.due()

    def test_news_do_not_wait(self, body: Body) -> None:
        """Only until the loop comes by."""
        body.heartbeat.beat()
        body.heartbeat.soon()
        assert body.heartbeat.due()

    def test_what_only_the_coordinator_waits_for(self, body: Body, tmp_path: Path) -> None:
        """It is told without the disk, once for all that comes together."""
        body.heartbeat.turn()
        body.file.outcome = Reloaded(count=3)
        body.clock.advance(NEWS_SECONDS)
        body.heartbeat.news()
        body.heartbeat.news()
        assert body.heartbeat.due()
        body.heartbeat.turn()
        assert [kind for kind, _ in body.said] == ["state", "state"]
        assert read_status(tmp_path).config.count == 2
        body.heartbeat.news()
        assert not body.heartbeat.due()
        body.clock.advance(NEWS_SECONDS)
        assert body.heartbeat.due()
        body.clock.advance(HEARTBEAT_SECONDS)
        body.heartbeat.turn()
        assert read_status(tmp_path).config.count == 3
        assert not body.heartbeat.due()

    def test_a_slow_disk_holds_up_nobody(self, body: Body, tmp_path: Path) -> None:
        """While one word is being written the next ones go to the coordinator alone."""
        posted: Queue[Callable[[], None]] = Queue()
        go = threading.Event()

        def slow(folder: Path, status: bytes) -> None:
            assert go.wait(10.0)
            write_status(folder, status)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(heartbeat_module, "write_status", slow)
            body.heartbeat._disk = disk = Background(posted.put)
            body.heartbeat.beat()
            body.file.outcome = Reloaded(count=3)
            body.heartbeat.beat()
            assert len(body.said) == 2
            assert not (tmp_path / "status.json").exists()
            go.set()
            posted.get(timeout=10.0)()
            assert read_status(tmp_path).config.count == 2
            body.heartbeat.beat()
            posted.get(timeout=10.0)()
            assert read_status(tmp_path).config.count == 3
            disk.close()

    def test_one_that_fails_is_not_tried_at_every_turn(
        self, body: Body, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk would be told ten times a second; the coordinator hears all the same."""

        def full(*_: object, **__: object) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(heartbeat_module, "write_status", full)
        with pytest.raises(StoreError):
            body.heartbeat.beat()
        assert not body.heartbeat.due()
        assert [kind for kind, _ in body.said] == ["state"]


class TestWord:
    def test_goes_to_the_coordinator_and_to_the_disk(self, body: Body, tmp_path: Path) -> None:
        """The same word; the file says more of this machine."""
        body.clock.advance(3.0)
        body.heartbeat.beat()
        [(kind, state)] = body.said
        assert kind == "state"
        assert (state.online, state.newest, state.labels) == (True, NEWEST, {"line": "A"})
        assert state.sent_ns == body.clock.now_ns()
        assert state.resident_bytes > 10**6
        assert state.jobs == body.jobs
        status = read_status(tmp_path)
        assert structs.replace(status.state, resident_bytes=0) == structs.replace(
            state, resident_bytes=0
        )
        assert (status.connected, status.trainer_pid, status.config.count) == (True, 4711, 2)
        assert (state.audit, status.audit_lost) == (HEAD, 3)

    def test_stays_on_the_disk_while_nobody_listens(self, body: Body, tmp_path: Path) -> None:
        """It would be old when the broker is back."""
        body.line.connected = False
        body.heartbeat.beat()
        assert body.said == []
        assert not read_status(tmp_path).connected

    @pytest.mark.parametrize(("free", "told"), [(7, 7), (0, 1)])
    def test_a_full_disk_is_told(self, body: Body, free: int, told: int) -> None:
        """No byte at all would mean that nothing is known, and the alert would end."""
        status = DiskStatus(free_bytes=free, floor_bytes=9, level="scarce")
        body.disk.status = lambda: status
        assert body.heartbeat.state().disk_free_bytes == told

    def test_has_the_labels_of_a_changed_configuration(self, body: Body) -> None:
        """From the next one on."""
        section = structs.replace(body.config.agent, labels={"line": "B"})
        body.heartbeat.adopt(structs.replace(body.config, agent=section))
        assert body.heartbeat.state().labels == {"line": "B"}
