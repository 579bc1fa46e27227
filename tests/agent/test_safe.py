# SPDX-License-Identifier: Apache-2.0
"""An agent in safe mode on a broker in memory."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.agent.identity.scenarios import NEW, OLD, facts, put
from tests.agent.identity.stand import DAY, Hands
from tests.agent.kit import Journal

from fedmill_agent import safe
from fedmill_agent.background import STUCK_SECONDS, Background
from fedmill_agent.config import AgentConfig, AgentSection, BrokerSection
from fedmill_agent.identity import keeper
from fedmill_agent.identity.children import Outcome
from fedmill_agent.identity.folder import IdentityFolder
from fedmill_agent.identity.place import identity_folder
from fedmill_agent.line import subscriptions
from fedmill_agent.safe import SAFE_SECONDS, SafeDaemon
from fedmill_agent.service import Service
from fedmill_agent.starts import MOST_FAILURES, STARTS_FILE, StartRecord, Starts
from fedmill_agent.status import read_status
from fedmill_shared import topics
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import FedmillError
from fedmill_shared.link.base import Message, Unheard
from fedmill_shared.link.memory import MemoryBroker, MemoryLink
from fedmill_shared.link.options import TlsSection, settled
from fedmill_shared.messages import AgentState, RenewalAnswer, decode, encode


class Stand:
    """The daemon, the broker, and what it leaves."""

    def __init__(self, folder: Path, *, forced: bool = False, tls: bool = False) -> None:
        self.state, self.journal = folder / "state", Journal()
        self.clock = ManualClock(0) if tls else ManualClock()  # 0: a certificate's first moment
        self.state.mkdir()
        config = folder / "agent.toml"
        config.write_text("")
        for _ in range(MOST_FAILURES):
            Starts(self.state, config, self.journal)
        self.starts = Starts(self.state, config, self.journal, forced=forced)
        self.broker = MemoryBroker()
        settings = AgentConfig(
            agent=AgentSection(id="gw", state=str(self.state), labels={"line": "A"}),
            broker=BrokerSection(tls=settled(TlsSection() if tls else None, folder, self.state)),
        )

        def connect(sink: Any, will: Any) -> MemoryLink:
            self.link = MemoryLink(self.broker, subscriptions("gw"), sink, will)
            return self.link

        service = Service(self.clock, self.journal, starts=self.starts)
        self.daemon = SafeDaemon(
            settings, connect, self.clock, self.journal, starts=self.starts, service=service
        )

    @property
    def word(self) -> AgentState:
        """What the broker keeps of it."""
        return decode(self.broker.retained[topics.up("gw", "state")], AgentState)

    def turn(self, times: int = 20) -> None:
        """Two seconds."""
        for _ in range(times):
            self.daemon.step(0.0)
            self.clock.advance(0.1)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """After five failed starts."""
    return Stand(tmp_path)


class TestWork:
    def test_it_says_how_it_is(self, stand: Stand) -> None:
        """To the coordinator and on the disk, with the reason; it knows of no job."""
        stand.link.start()
        stand.turn()
        assert stand.word.online
        assert stand.word.jobs == {}
        assert stand.word.labels == {"line": "A"}
        assert "5 starts in a row failed" in stand.word.safe_mode
        assert read_status(stand.state).state == stand.word

    def test_it_opens_nothing(self, stand: Stand) -> None:
        """What a job left is not touched, nor anything made."""
        before = sorted(stand.state.iterdir())
        job = stand.state / "jobs/press"
        job.mkdir(parents=True)
        (job / "job.json").write_bytes(b"what ended five starts")
        stand.link.start()
        stand.broker.route(topics.broadcast("job", "press"), b"damaged", retain=True)
        stand.turn()
        made = {path.name for path in stand.state.iterdir()} - {path.name for path in before}
        assert made == {"jobs", "status.json"}
        assert stand.journal.of("message.refused") == []

    def test_it_goes_on_without_a_broker(self, stand: Stand) -> None:
        """And says so on the disk."""
        stand.turn()
        assert not read_status(stand.state).connected
        stand.link.start()
        stand.turn()
        assert read_status(stand.state).connected

    def test_it_tells_what_the_broker_keeps_from_it(self, stand: Stand) -> None:
        """Whoever looks for why it is not reached finds that."""
        stand.daemon._hear(Unheard("fedmill/v1/gw/down/#", "Not authorized", "mend the ACL"))
        stand.turn(1)
        [event] = stand.journal.of("broker.unheard")
        assert event["remedy"] == "mend the ACL"

    def test_what_hangs_is_seen(self, stand: Stand) -> None:
        """The link, and what works for the certificate."""
        assert stand.daemon._late() == {}
        stand.link.late = 7.0
        stand.daemon._background._pulse.beat(rest=-STUCK_SECONDS)
        stand.clock.advance(3.0)
        late = {name: round(each) for name, each in stand.daemon._late().items()}
        assert late == {"link": 7, "background": 3}

    def test_a_wish_to_reload_is_answered(self, stand: Stand) -> None:
        """With what helps: whoever asks waits for an answer."""
        stand.turn()
        stand.daemon.reload()
        stand.turn()
        told = read_status(stand.state).config
        assert told.count == 1
        assert "safe mode" in told.error

    def test_a_disk_that_is_full(self, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
        """The coordinator hears all the same."""

        def full(*_: object) -> None:
            raise safe.FedmillError("full")

        monkeypatch.setattr(safe, "write_status", full)
        stand.link.start()
        stand.turn()
        assert stand.word.safe_mode
        assert stand.journal.of("event.failed")


class TestCertificate:
    @pytest.fixture
    def stand(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
        """With a certificate; what takes cryptography is done at once, by nobody."""
        self.hands = Hands()
        monkeypatch.setattr(keeper, "Children", lambda *_: self.hands)
        monkeypatch.setattr(safe, "Background", lambda *_: Background())
        stand = Stand(tmp_path, tls=True)
        self.folder = IdentityFolder(identity_folder(stand.state))
        put(self.folder, OLD)
        stand.link.start()
        stand.turn()
        return stand

    def test_is_told(self, stand: Stand) -> None:
        """To the coordinator and on the disk."""
        assert stand.word.certificate.serial == "1"
        assert read_status(stand.state).identity.state == "valid"

    def test_is_renewed_in_time(self, stand: Stand) -> None:
        """A gateway in safe mode for weeks would be heard of no more."""
        asked: list[Any] = []
        coordinator = MemoryLink(stand.broker, [topics.up("gw", "renew")], asked.append)
        coordinator.start()
        stand.clock.advance(65 * DAY)
        stand.turn()
        assert [each.payload for each in asked if isinstance(each, Message)] == [b"request 1"]

        def take(_certificate: bytes) -> Outcome:
            put(self.folder, NEW)
            return Outcome(facts=facts(NEW), changed=True)

        self.hands.take = take  # type: ignore[method-assign]
        answer = RenewalAnswer(state="issued", certificate=b"new")
        coordinator.publish(topics.down("gw", "certificate"), encode(answer))
        stand.turn()
        assert stand.word.certificate.serial == "2"
        assert stand.word.safe_mode
        assert stand.journal.of("certificate.renewed")

    def test_what_is_no_answer_ends_nothing(self, stand: Stand) -> None:
        """It is refused, and safe mode goes on."""
        coordinator = MemoryLink(stand.broker, [], list)
        coordinator.publish(topics.down("gw", "certificate"), b"damaged")
        stand.turn()
        assert stand.journal.of("message.refused")
        assert stand.word.safe_mode


class TestEnd:
    def test_after_an_hour_a_start_in_full_is_tried(self, stand: Stand) -> None:
        """It ends with an error, so that any service manager starts it anew."""
        ticking = threading.Event()

        def pass_time() -> None:
            while not ticking.wait(0.01):
                stand.clock.advance(SAFE_SECONDS / 10)

        thread = threading.Thread(target=pass_time)
        thread.start()
        try:
            with pytest.raises(FedmillError, match="a start in full is tried"), stand.starts:
                stand.daemon.run()
        finally:
            ticking.set()
            thread.join()
        record = msgspec.json.decode((stand.state / STARTS_FILE).read_bytes(), type=StartRecord)
        assert (record.failures, record.running) == (MOST_FAILURES - 1, False)
        assert not stand.word.online
        [event] = stand.journal.of("agent.safe_mode")
        assert "5 starts" in event["reason"]

    def test_asked_to(self, stand: Stand) -> None:
        """In order, and the next start is in full."""
        stand.daemon.stop()
        with stand.starts:
            stand.daemon.run()
        assert not stand.word.online
        assert stand.word.safe_mode == ""
        record = msgspec.json.decode((stand.state / STARTS_FILE).read_bytes(), type=StartRecord)
        assert record.failures == 0

    def test_forced_it_stays(self, tmp_path: Path) -> None:
        """Whoever asked for it ends it."""
        stand = Stand(tmp_path, forced=True)
        stand.daemon.stop()
        stand.clock.advance(10 * SAFE_SECONDS)
        with stand.starts:
            stand.daemon.run()
