# SPDX-License-Identifier: Apache-2.0
"""A daemon with an authority: who enrols, and what is left of an agent that was revoked."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs
from structlog.testing import capture_logs
from tests.coordinator.pki.kit import Box
from tests.coordinator.plant import Plant

from fedmill_coordinator.pki.enrolling import open_enrolment
from fedmill_coordinator.pki.keyfile import make_authority
from fedmill_coordinator.pki.options import PkiSection, settled_pki
from fedmill_coordinator.pki.register import record_of
from fedmill_shared import topics
from fedmill_shared.crypto.keys import public_bytes
from fedmill_shared.errors import IdentityError
from fedmill_shared.link.base import LinkEvent, Message
from fedmill_shared.link.memory import MemoryLink
from fedmill_shared.messages import AgentState, EnrolmentAnswer, Join, decode, encode


class Guarded:
    """A plant whose coordinator gets an authority, with a certificate for each agent."""

    def __init__(self, plant: Plant, folder: Path) -> None:
        self.plant = plant
        section = settled_pki(PkiSection(), folder, folder)
        assert section is not None
        self.section = section
        self.authority = make_authority(section, "Plant CA", plant.clock.now_ns())

    def certify(self, agent: str) -> None:
        """A certificate for ``agent``."""
        now = self.plant.clock.now_ns()
        pem = self.authority.issue_client(
            agent, public_bytes(Box(agent).key), now_ns=now, days=90, random=lambda n: b"\7" * n
        )
        serial = f"{len(self.plant.store.certificates()) + 1:x}"
        record = structs.replace(record_of(pem, "agent", b"", now), serial=serial)
        self.plant.store.add_certificate(record)

    def restart(self) -> None:
        """The coordinator comes back with its authority."""
        self.plant.link.stop()
        self.plant.config = structs.replace(self.plant.config, pki=self.section)
        self.plant.daemon = self.plant.make()
        self.plant.link.start()
        self.plant.work()

    def revoke(self, agent: str) -> None:
        """A command in another process; the daemon has time to look."""
        now = self.plant.clock.now_ns()
        self.plant.store.revoke(agent, revoked_ns=now, reason="stolen")
        self.plant.wait(1.5)


@pytest.fixture
def guarded(make_plant: Callable[..., Plant], tmp_path: Path) -> Guarded:
    """A plant with an open round and two agents that have certificates."""
    plant = make_plant()
    plant.running()
    made = Guarded(plant, tmp_path)
    for agent in ("a", "b"):
        made.certify(agent)
    return made


@pytest.mark.usefixtures("exported_once")
class TestDenial:
    def test_its_updates_are_refused(self, guarded: Guarded) -> None:
        """Those that no round has used; the round waits for others, and says why it lost one."""
        plant = guarded.plant
        plant.update("a")
        assert [each.agent for each in plant.store.pending("tiny")] == ["a"]
        guarded.restart()
        with capture_logs() as logs:
            guarded.revoke("a")
        assert plant.store.pending("tiny") == []
        [refused] = plant.store.updates("tiny", 1)
        assert (refused.state, refused.code) == ("refused", "revoked")
        assert "revoked" in refused.reason
        told = [log for log in logs if log["event"] in ("update.revoked", "agent.revoked")]
        assert [(log["event"], log["agent"]) for log in told] == [
            ("update.revoked", "a"),
            ("agent.revoked", "a"),
        ]
        assert plant.state() == ("running", 1)

    def test_it_is_gone(self, guarded: Guarded) -> None:
        """Nobody waits for it, nothing of it is heard, and the others are as before."""
        plant = guarded.plant
        guarded.restart()
        guarded.revoke("a")
        records = {each.agent: each.online for each in plant.store.agents()}
        assert records == {"a": False, "b": True}
        before = plant.store.agents()
        plant.say("a", "state", AgentState(online=True, software="9.9.9"))
        plant.say("a", "join", Join(job="tiny", schema="0" * 64, windows={"train": 1}))
        assert [each.software for each in plant.store.agents()] == [e.software for e in before]
        assert plant.store.refusals() == []
        plant.say("b", "state", AgentState(online=True, software="9.9.9"))
        assert {each.agent: each.software for each in plant.store.agents()}["b"] == "9.9.9"

    def test_a_restart_finishes_what_was_left(self, guarded: Guarded) -> None:
        """It was revoked while nobody ran: its update is refused with the first look."""
        plant = guarded.plant
        plant.update("a")
        plant.store.revoke("a", revoked_ns=plant.clock.now_ns(), reason="stolen")
        guarded.restart()
        assert plant.store.pending("tiny") == []

    def test_a_disk_that_fails(self, guarded: Guarded) -> None:
        """It is tried again until it is done."""
        plant = guarded.plant
        plant.update("a")
        guarded.restart()
        plant.disk.failing = 2
        guarded.revoke("a")
        plant.wait(1)
        assert plant.disk.failed == 2
        assert plant.store.pending("tiny") == []


class TestEnrolment:
    def test_over_the_broker(self, make_plant: Callable[..., Plant], tmp_path: Path) -> None:
        """A box reads the authority, asks, and is answered; its certificate is in the store."""
        plant = make_plant()
        guarded = Guarded(plant, tmp_path)
        guarded.restart()
        heard: dict[str, bytes] = {}

        def hear(event: LinkEvent) -> None:
            if isinstance(event, Message):
                heard[event.topic] = event.payload

        MemoryLink(plant.broker, [topics.ENROL_CA], hear).start()
        opened = open_enrolment(
            "gw7",
            heard[topics.ENROL_CA],
            now_ns=plant.clock.now_ns(),
            ttl_ns=10**12,
            confirm=False,
            by="anna",
        )
        plant.store.add_enrolment(opened.record)
        request = encode(Box("gw7", opened.code).request())
        answer = topics.enrol_down(request)
        box_link = MemoryLink(plant.broker, [answer], hear)
        box_link.start()
        box_link.publish(topics.ENROL_UP, request)
        plant.work()
        told = decode(heard[answer], EnrolmentAnswer)
        assert told.state == "issued"
        assert [each.agent for each in plant.store.certificates()] == ["gw7"]
        assert Path(guarded.section.crl).exists()

    def test_without_an_authority(self, make_plant: Callable[..., Plant]) -> None:
        """Who asks is not heard, and everything else is as it was."""
        plant = make_plant()
        plant.link.start()
        plant.work()
        with capture_logs() as logs:
            plant.broker.route(topics.ENROL_UP, b"x", retain=False)
            plant.work()
        assert [log["event"] for log in logs] == ["message.refused"]

    def test_a_key_that_others_may_read(
        self, make_plant: Callable[..., Plant], tmp_path: Path
    ) -> None:
        """The daemon does not start with it."""
        guarded = Guarded(make_plant(), tmp_path)
        Path(guarded.section.ca_key).chmod(0o644)
        with pytest.raises(IdentityError, match="others may read"):
            guarded.restart()
