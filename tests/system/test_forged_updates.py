# SPDX-License-Identifier: Apache-2.0
"""Updates in a plant with identities: who owns the broker forges none, and no crash unsigns one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from urllib.request import urlopen

import msgspec
import pytest
from msgspec import structs
from tests.coordinator.exposition.reading import Told, read
from tests.system.fleet import COORDINATOR, a_job
from tests.system.secured import SecureFleet, loaded, secured

from fedmill_agent.places import job_folder
from fedmill_coordinator.demo.broker import free_port
from fedmill_shared import topics
from fedmill_shared.crypto.keys import make_key
from fedmill_shared.crypto.origin import sign_origin
from fedmill_shared.files import sha256
from fedmill_shared.link.base import Connected, LinkEvent
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.link.outbox import Parcel
from fedmill_shared.messages import UpdateOffer, encode
from fedmill_shared.messages.origin import label

pytestmark = [pytest.mark.system, pytest.mark.drill]
ADMIN = "admin"
FRAME = b"weights that suit somebody"


@contextmanager
def enrolled(folder: Path) -> Iterator[SecureFleet]:
    """Two agents with identities, of which neither has begun."""
    job = a_job(rounds=2, deadline_seconds=60.0, minimum=2)
    with secured(folder, job) as fleet:
        fleet._append(fleet.layout.coordinator, f"[metrics]\nport = {free_port()}\n")
        fleet.start(COORDINATOR)
        fleet.wait("coordinator", lambda: fleet.heard("broker.connected"))
        for agent, config in fleet.layout.agents.items():
            done = fleet.enrol(config, fleet.code(agent))
            assert done.returncode == 0, done.stderr
        yield fleet


def told(fleet: SecureFleet) -> Told:
    """What the coordinator's own listener tells."""
    (event,) = fleet.events(COORDINATOR, "metrics.listening")
    with urlopen(f"http://127.0.0.1:{event['port']}/metrics", timeout=30) as page:
        return read(page.read().decode())


@contextmanager
def administrator(fleet: SecureFleet) -> Iterator[MqttLink]:
    """Somebody who may say anything to the broker, in anybody's name: the broker is his own."""
    acl = fleet.folder / "plant" / "acl"
    acl.write_text(acl.read_text() + f"\nuser {ADMIN}\ntopic readwrite #\n")
    before = fleet.plant.log.count("ACL pattern")  # mosquitto warns of one each time it reads them
    fleet.plant.child.send_signal(signal.SIGHUP)
    fleet.plant.wait("rights", lambda: fleet.plant.log.count("ACL pattern") > before)
    credential = loaded(fleet.pki).issue(ADMIN)
    events: SimpleQueue[LinkEvent] = SimpleQueue()
    tls = fleet.plant.identity(credential)
    (Path(tls.ca)).write_bytes((fleet.pki / "ca.pem").read_bytes())
    endpoint = Endpoint(
        host="127.0.0.1", port=fleet.port, client_id=ADMIN, subscriptions=(), tls=tls
    )
    link = MqttLink(endpoint, events.put)
    link.start()
    try:
        assert isinstance(events.get(timeout=30), Connected)
        yield link
    finally:
        link.stop()


def forged(fleet: SecureFleet, agent: str) -> UpdateOffer:
    """An update of ``agent`` for the open round that ``agent`` never made, signed by nobody."""
    (current,) = [each for each in fleet.rounds() if each.state == "open"]
    return UpdateOffer(
        job=fleet.job.name,
        round=current.round,
        base=current.base,
        sha256=sha256(FRAME),
        size=len(FRAME),
        examples=100_000,
        loss=0.0,
        seconds=1.0,
        protocol=2,
    )


def signed(offer: UpdateOffer, agent: str) -> UpdateOffer:
    """``offer`` under a label that says all the right things, with a key of the attacker's own."""
    said = label(offer, agent=agent, schema=sha256(b"layout"), software="0.1.0", made_ns=1)
    key, signature = sign_origin(make_key(), said)
    return structs.replace(offer, key=key, origin=said, signature=signature)


class TestForged:
    def test_the_brokers_administrator(self, tmp_path: Path) -> None:
        """It is refused, counted and told; the round goes on with what its agents learned."""
        with enrolled(tmp_path / "fleet") as fleet:
            first, second = fleet.agents
            fleet.start(first, second)
            trainer = fleet.hold(second)
            fleet.wait("an honest update", lambda: fleet.received(1) == [first])
            with administrator(fleet) as link:
                offer = forged(fleet, second)
                for each in (offer, signed(offer, second)):
                    link.publish(topics.up(second, "update"), encode(each))
                    for block in blocks_of(FRAME, [0], name=offer.sha256):
                        link.publish(topics.up(second, "block"), block)
                stolen = fleet.store.updates(fleet.job.name, 1)[0]
                replayed = structs.replace(
                    offer, key=stolen.key, origin=stolen.origin, signature=stolen.signature
                )
                link.publish(topics.up(second, "update"), encode(replayed))
                fleet.wait("both", lambda: len(fleet.events(COORDINATOR, "update.forged")) == 2)
            assert len(fleet.events(COORDINATOR, "update.unsigned", agent=second)) == 1
            assert fleet.received(1) == [first]
            counted = told(fleet)["fedmill_updates_total"]
            assert counted[fleet.job.name, "refused", "forged"] == 2
            assert counted[fleet.job.name, "refused", "unsigned"] == 1
            trainer.resume()
            fleet.finish()
            assert [each.included for each in fleet.rounds()] == [[first, second]] * 2
            assert fleet.rounds()[0].rejected == 3
            done = fleet.run(
                "fedmill_coordinator", "rounds", "verify", fleet.layout.coordinator, "--json"
            )
            assert done.returncode == 0, done.stderr
            rows = msgspec.json.decode(done.stdout)
            assert [row["label"] for row in rows] == ["genuine"] * 4
            for agent in (first, second):
                serials = {row["certificate"] for row in rows if row["agent"] == agent}
                assert serials == set(fleet.serials(agent))


class TestKilled:
    def test_the_signature_survives(self, tmp_path: Path) -> None:
        """Kill -9 between training and delivery: the same bytes are sent, signed as they were."""
        with enrolled(tmp_path / "fleet") as fleet:
            first, second = fleet.agents
            fleet.start(first, second)
            trainer = fleet.hold(second)
            fleet.wait("the other", lambda: fleet.received(1) == [first])
            coordinator = fleet.process(COORDINATOR)
            coordinator.suspend()
            trainer.resume()
            outbox = job_folder(fleet.state(second), fleet.job.name) / "outbox"
            # Not what is still being written: a kill may lose that, and it is trained again.
            fleet.wait("the update", lambda: any(outbox.glob("*.update")))
            (path,) = outbox.glob("*.update")
            before = msgspec.msgpack.decode(path.read_bytes(), type=Parcel).offer
            assert before.signature
            fleet.kill(second)
            fleet.start(second)
            coordinator.resume()
            fleet.finish()
            (row,) = [
                each for each in fleet.store.updates(fleet.job.name, 1) if each.agent == second
            ]
            assert (row.sha256, row.signature) == (before.sha256, before.signature)
            assert row.state == "included"
