# SPDX-License-Identifier: Apache-2.0
"""With and without a broker."""

from collections.abc import Callable

import pytest
import structlog
from structlog.testing import capture_logs
from tests.coordinator.plant import Plant

from fedmill_coordinator.config import BrokerSection
from fedmill_coordinator.connection import Connection
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import Connected, Disconnected, LinkEvent, Message, Unheard
from fedmill_shared.link.memory import MemoryBroker, MemoryLink
from fedmill_shared.link.options import TlsSection
from fedmill_shared.link.rights import RightsTold
from fedmill_shared.messages import Echo, encode

pytestmark = pytest.mark.usefixtures("exported_once")


class TestConnection:
    """With and without the broker."""

    def test_nothing_is_done_while_it_is_away(self, make_plant: Callable[..., Plant]) -> None:
        """A deadline that passes in an outage is acted on after it."""
        plant = make_plant()
        plant.running()
        plant.update("a")
        plant.daemon._hand_in(Disconnected("cable"))
        plant.work()
        current = plant.store.current_round("tiny")
        plant.clock.advance(100)
        plant.work()
        assert plant.store.current_round("tiny") == current
        plant.daemon._hand_in(Connected(session_present=True))
        plant.work()
        extended = plant.store.current_round("tiny")
        assert extended is not None
        assert current is not None
        assert extended.deadline_ns > current.deadline_ns

    def test_everything_is_said_again_after_it(self, make_plant: Callable[..., Plant]) -> None:
        """The broker may have forgotten what it retained."""
        plant = make_plant()
        plant.running()
        plant.heard["a"].clear()
        plant.daemon._hand_in(Connected(session_present=False))
        plant.work()
        assert [kind for kind, _ in plant.heard["a"]] == ["job", "version", "round"]

    def test_agents_get_time_to_come_back(self, make_plant: Callable[..., Plant]) -> None:
        """The broker answers long after the start: nobody is missed before they could come."""
        plant = make_plant()
        plant.clock.advance(50)
        plant.link.start()
        plant.work()
        assert plant.daemon._services.fleet.changed_at == plant.clock.monotonic()

    def test_no_broker_at_all(self, make_plant: Callable[..., Plant]) -> None:
        """It gives up after the configured time, and says what to do."""
        plant = make_plant()
        ticking = plant.clock.monotonic

        def monotonic() -> float:
            plant.clock.advance(0.5)
            return ticking()

        plant.clock.monotonic = monotonic
        plant.link.start = lambda: None
        with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1883: no broker has answered \(start"):
            plant.daemon.run()

    def test_stop(self, make_plant: Callable[..., Plant]) -> None:
        """Asked to stop, the loop ends and the link is closed."""
        plant = make_plant()
        plant.daemon.stop()
        plant.daemon.run()
        assert not plant.link._connected


class TestPatience:
    """How long a broker is waited for that has never been there."""

    def connection(self, clock: ManualClock, seconds: float) -> Connection:
        """Nothing has been heard of the broker, and the link has just started."""
        made = Connection(BrokerSection(connect_seconds=seconds), clock, structlog.get_logger())
        clock.advance(100)  # loading the jobs
        made.begin()
        return made

    def test_it_begins_with_the_link(self) -> None:
        """And ends after the configured time, with what the link said last."""
        clock = ManualClock()
        connection = self.connection(clock, 2.0)
        connection.lost(Disconnected("connection refused", "start mosquitto"))
        clock.advance(2)
        connection.check()
        clock.advance(0.1)
        with pytest.raises(BrokerError, match=r":1883: connection refused \(start mosquitto\)"):
            connection.check()

    def test_it_has_no_end(self) -> None:
        """Where 0 is configured."""
        clock = ManualClock()
        connection = self.connection(clock, 0.0)
        clock.advance(1e6)
        connection.check()

    def test_a_broker_that_was_there_is_waited_for_without_end(self) -> None:
        """A later loss is always waited out."""
        clock = ManualClock()
        connection = self.connection(clock, 2.0)
        connection.made(Connected(session_present=False))
        assert connection.up
        connection.lost(Disconnected("cable"))
        assert not connection.up
        clock.advance(1e6)
        connection.check()

    @pytest.mark.parametrize(
        ("seconds", "was_there", "outlook"),
        [(2.0, False, "gives up 2 s after its start"), (0.0, False, "keeps"), (2.0, True, "keeps")],
    )
    def test_the_log_says_how_long(self, seconds: float, outlook: str, *, was_there: bool) -> None:
        """It does not promise to go on trying where it will not."""
        with capture_logs() as logs:
            connection = self.connection(ManualClock(), seconds)
            if was_there:
                connection.made(Connected(session_present=False))
            connection.lost(Disconnected("refused", "start mosquitto"))
        assert logs[-1]["remedy"].startswith(f"start mosquitto; the coordinator {outlook}")


class TestRights:
    """What the broker lets the coordinator do."""

    def test_is_tried_where_there_is_tls(self) -> None:
        """It may speak to every agent, and for none."""
        broker = MemoryBroker()
        broker.forbidden = ["+/+/+/up/#"]
        settings = BrokerSection(tls=TlsSection())
        link = MemoryLink(broker, [], lambda _: None)
        made = Connection(settings, ManualClock(), structlog.get_logger(), link)
        assert made.rights == RightsTold()
        made.made(Connected(session_present=False))
        assert made.rights == RightsTold(own="granted", foreign="refused")

    def test_in_the_clear_nothing_is_tried(self) -> None:
        """There everybody may do everything."""
        made = Connection(BrokerSection(), ManualClock(), structlog.get_logger())
        made.made(Connected(session_present=False))
        assert made.rights is None

    def test_agents_that_it_may_not_hear(self) -> None:
        """An error, for nothing can be done without them."""
        made = Connection(BrokerSection(), ManualClock(), structlog.get_logger())
        with capture_logs() as logs:
            made.unheard(Unheard("fedmill/v1/+/up/#", "Not authorized", "check the ACL"))
        assert logs[-1]["event"] == "broker.unheard"
        assert logs[-1]["log_level"] == "error"

    def test_an_agent_hears_its_own_word(self, make_plant: Callable[..., Plant]) -> None:
        """At once, and of nobody else; an old one that the broker kept is no question."""
        plant = make_plant()
        heard: list[Message] = []

        def hear(event: LinkEvent) -> None:
            if isinstance(event, Message):
                heard.append(event)

        plant.link.start()
        agent = MemoryLink(plant.broker, ["fedmill/v1/gw-1/down/#"], hear)
        agent.start()
        echo = encode(Echo(nonce=b"12345678"))
        agent.publish("fedmill/v1/gw-1/up/echo", echo)
        plant.work()
        assert heard == [Message("fedmill/v1/gw-1/down/echo", echo)]
