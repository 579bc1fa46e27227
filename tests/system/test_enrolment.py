# SPDX-License-Identifier: Apache-2.0
"""From a code on paper to rounds over mutual TLS, and the ways in which it is refused."""

import signal
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from tests.pki import Authority, now
from tests.pki_broker import PlantBroker
from tests.system.fleet import COORDINATOR, a_job, run
from tests.system.secured import SecureFleet, facts, identity, loaded, secured

from fedmill_coordinator.pki.register import record_of
from fedmill_shared import topics
from fedmill_shared.crypto.codes import make_code, parse_code
from fedmill_shared.crypto.keys import read_key
from fedmill_shared.link.base import Connected, Message
from fedmill_shared.link.mqtt import Endpoint, MqttLink

pytestmark = pytest.mark.system
YEAR = 365 * 24 * 3600
HOUR_NS = 3600 * 10**9


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureFleet]:
    """A plant whose coordinator and broker run; boxes come and go."""
    with secured(tmp_path_factory.mktemp("plant") / "fleet", a_job(), start=[COORDINATOR]) as fleet:
        fleet.wait("coordinator", lambda: fleet.heard("broker.connected"))
        yield fleet


def old_certificate(fleet: SecureFleet, agent: str) -> str:
    """Set an agent up as an inventory does, with a certificate that is due for renewal.

    It was issued two hours ago for two hours and forty minutes.
    """
    config = fleet.layout.agents[agent]
    request = config.parent / "request.pem"
    assert fleet.agent("identity", "request", str(config), "--out", str(request)).returncode == 0
    begin = now() - timedelta(hours=2)
    key = read_key(identity(config).next / "key.pem")
    issued = loaded(fleet.pki).issue(agent, begin=begin, life=timedelta(minutes=160), key=key)
    path = config.parent / "issued.pem"
    path.write_bytes(issued.pem)
    record = record_of(issued.pem, "agent", request.read_bytes(), time.time_ns() - 2 * HOUR_NS)
    fleet.store.add_certificate(record)
    where = ["--certificate", str(path), "--ca", str(fleet.pki / "ca.pem"), "--json"]
    for changed in (True, False):
        done = fleet.agent("identity", "install", str(config), *where)
        assert done.returncode == 0, done.stderr
        assert msgspec.json.decode(done.stdout)["changed"] is changed
    return issued.serial


class TestFederation:
    def test_from_code_to_rounds(self, tmp_path: Path) -> None:
        """One agent enrols while it runs, the other renews while updates flow; nobody restarts."""
        job = a_job(rounds=12, deadline_seconds=30.0, minimum=2)
        with secured(tmp_path / "fleet", job, start=[COORDINATOR]) as fleet:
            first, second = fleet.layout.agents
            config = fleet.layout.agents[first]
            fleet.start(first)
            fleet.wait("a word", lambda: bool(fleet.events(first, "certificate.missing")))
            fleet.wait("coordinator", lambda: fleet.heard("broker.connected"))
            code = fleet.code(first)
            done = fleet.enrol(config, code)
            assert done.returncode == 0, done.stderr
            assert f"enrolled: certificate {facts(config).serial} until" in done.stdout
            fleet.wait("the first", lambda: fleet.events(first, "broker.connected"))
            before = old_certificate(fleet, second)
            fleet.start(second)
            pids = [fleet.process(name).pid for name in (first, second)]
            fleet.finish()
            fleet.wait("renewal", lambda: fleet.events(second, "certificate.renewed"))
            fleet.wait("use of it", lambda: len(fleet.events(second, "broker.connected")) > 1)
            assert [fleet.process(name).pid for name in (first, second)] == pids
            renewed = facts(fleet.layout.agents[second])
            assert renewed.serial != before
            assert fleet.serials(second) == [before, renewed.serial]
            assert all(sorted(each.included) == [first, second] for each in fleet.rounds())
            updates = [
                u for each in fleet.rounds() for u in fleet.store.updates(job.job.name, each.round)
            ]
            assert all(update.signature for update in updates)
            fleet.wait("status", lambda: self.serial(fleet, second) == renewed.serial)
            self.revoke(fleet, second)
            for name in (COORDINATOR, first, second):
                path = fleet.layout.logs / f"{name}.log"
                assert "Traceback" not in path.read_text(errors="replace")

    def serial(self, fleet: SecureFleet, agent: str) -> str:
        """The certificate that an agent says it signs in with."""
        told = fleet.status(agent).identity
        return told.serial if told is not None else ""

    def revoke(self, fleet: SecureFleet, agent: str) -> None:
        """A revoked agent is heard no more, not let in again, and says why; it goes on scoring."""
        fleet.run("fedmill_coordinator", "revoke", *self.revocation(fleet, agent))
        fleet.wait("denial", lambda: fleet.heard("agent.denied", agent=agent))
        fleet.plant.child.send_signal(signal.SIGHUP)
        fleet.end(agent)
        fleet.start(agent)

        def refused() -> bool:
            reasons = [each["reason"] for each in fleet.events(agent, "broker.unreachable")]
            return any("our certificate is revoked" in each for each in reasons)

        fleet.wait("refusal", refused)
        scored = fleet.status(agent).state.jobs[fleet.job.name].windows_scored
        fleet.wait(
            "scores", lambda: fleet.status(agent).state.jobs[fleet.job.name].windows_scored > scored
        )

    def revocation(self, fleet: SecureFleet, agent: str) -> list[str]:
        """Arguments of the command."""
        return ["--config", str(fleet.layout.coordinator), agent, "--reason", "stolen"]


class TestCodes:
    def test_once(self, plant: SecureFleet) -> None:
        """The same box may ask again with its code; another box with the same code is refused."""
        one, other = plant.box("once", "once"), plant.box("other", "once")
        code = plant.code("once")
        assert plant.enrol(one, code).returncode == 0
        serial = facts(one).serial
        done = plant.enrol(other, code)
        assert done.returncode == 24
        assert "the coordinator refuses: the code was used before, with another request" in (
            done.stderr
        )
        assert "Traceback" not in done.stderr
        assert identity(other).number == 0
        assert plant.heard("enrolment.replayed", agent="once")
        assert plant.serials("once") == [serial]

    def test_of_another_agent(self, plant: SecureFleet) -> None:
        """A code is for one id."""
        code = plant.code("press-7")
        done = plant.enrol(plant.box("wrong-id", "press-8"), code)
        assert done.returncode == 24
        assert "look whether the code was made for this agent.id" in done.stderr

    def test_wrong(self, plant: SecureFleet) -> None:
        """Invented with the right pin: refused by the coordinator; mistyped: never sent."""
        box = plant.box("guess", "guess")
        plant.code("guess")
        pin = parse_code(plant.code("decoy")).pin
        guessed = make_code(pin.hex() + "0" * 32)
        done = plant.enrol(box, str(guessed))
        assert done.returncode == 24
        assert "not, or no longer, good for this agent" in done.stderr
        mistyped = str(guessed).translate(str.maketrans("23456789", "34567892"))
        done = plant.enrol(box, mistyped)
        assert done.returncode == 24
        assert "mistyped" in done.stderr
        assert mistyped not in done.stderr

    def test_killed_while_it_waits(self, plant: SecureFleet) -> None:
        """It goes on with the same key, and the same code, once somebody has accepted it."""
        box = plant.box("killed", "killed")
        code = plant.code("killed", "--confirm")
        child = plant.starting("enrol", str(box), "--code", code)
        assert child.stdout is not None
        line = next(line for line in child.stdout if "waiting" in line)
        child.kill()
        child.wait()
        child.stdout.close()
        rows = msgspec.json.decode(plant.command("enrol", "list", "--json"))
        [row] = [each for each in rows if each["agent"] == "killed"]
        assert row["state"] == "pending"
        assert f"request {row['request']}" in line
        done = plant.enrol(box, code, "--timeout", "2")
        assert done.returncode == 24
        assert f"nobody has accepted killed, request {row['request']}, yet" in done.stderr
        plant.command("enrol", "accept", "killed")
        done = plant.enrol(box, code)
        assert done.returncode == 0, done.stderr
        assert "waits on this machine" in done.stdout
        assert facts(box).agent == "killed"
        audit = (box.parent / "state" / "audit.jsonl").read_text()
        assert "certificate.enrolled" in audit
        assert facts(box).serial in audit

    def test_nothing_listens(self, plant: SecureFleet) -> None:
        """The address is told, and where it is written."""
        box = plant.box("nowhere", "nowhere")
        box.write_text(box.read_text().replace(str(plant.plant.enrol_port), "1"))
        done = plant.enrol(box, plant.code("nowhere"))
        assert done.returncode == 20
        assert "127.0.0.1:1: no connection: Connection refused" in done.stderr
        assert "enrol_port below [broker]" in done.stderr

    def test_a_wrong_clock(self, plant: SecureFleet) -> None:
        """One sentence with both times, no word of OpenSSL; the code is good afterwards."""
        box = plant.box("clock", "clock")
        code = plant.code("clock")
        path = box.parent / "code"
        path.write_text(code)
        for seconds, told in ((-7 * YEAR, "valid from"), (20 * YEAR, "was valid until")):
            clock = ["-m", "tests.faults.clock", str(seconds), "--", "fedmill_agent", "enrol"]
            command = [sys.executable, *clock, str(box), "--code-file", str(path)]
            done = run(plant.folder, command)
            assert done.returncode == 24
            assert "this machine's clock says" in done.stderr
            assert told in done.stderr
            assert "SSL" not in done.stderr
        assert plant.enrol(box, code).returncode == 0


class TestMiddle:
    def test_a_broker_of_somebody_else(self, plant: SecureFleet, tmp_path: Path) -> None:
        """Whoever stands between shows his own authority, or ours without its key: refused.

        He hears nothing of the box.
        """
        box = plant.box("victim", "victim")
        code = plant.code("victim")
        theirs = Authority()
        middle = PlantBroker(tmp_path / "middle", theirs)
        middle.start()
        box.write_text(box.read_text().replace(str(plant.plant.enrol_port), str(middle.enrol_port)))
        heard: list[object] = []
        endpoint = Endpoint(
            host="127.0.0.1",
            port=middle.port,
            client_id=COORDINATOR,
            subscriptions=[topics.ENROL_UP],
            tls=middle.identity(theirs.issue(COORDINATOR)),
        )
        link = MqttLink(endpoint, heard.append)
        link.start()
        ours = (plant.pki / "ca.pem").read_bytes()
        try:
            middle.wait("middle", lambda: Connected(session_present=False) in heard)
            for shown, told in (
                (theirs.pem, "somebody else may answer there; nothing was sent"),
                (ours, "the broker's certificate is not from our CA"),
            ):
                link.publish(topics.ENROL_CA, shown, retain=True)
                middle.wait("shown", lambda: link.backlog == 0)
                done = plant.enrol(box, code, "--timeout", "20")
                assert done.returncode == 24, done.stderr
                assert told in done.stderr
        finally:
            link.stop()
            middle.stop()
        assert not any(isinstance(each, Message) for each in heard)
        assert identity(box).number == 0


class TestSetUpByOthers:
    def test_a_request_that_is_carried(self, plant: SecureFleet, tmp_path: Path) -> None:
        """Request, certificate, install: whoever repeats it changes nothing."""
        box = plant.box("carried", "carried")
        request, issued = tmp_path / "request.pem", tmp_path / "issued.pem"
        ask = ["identity", "request", str(box), "--out", str(request), "--json"]
        take = ["--certificate", str(issued), "--ca", str(plant.pki / "ca.pem"), "--json"]
        for changed in (True, False):
            done = plant.agent(*ask)
            assert msgspec.json.decode(done.stdout)["changed"] is changed, done.stderr
            files = ["--csr", str(request), "--out", str(issued)]
            plant.command("enrol", "preauthorise", "carried", *files)
            done = plant.agent("identity", "install", str(box), *take)
            assert msgspec.json.decode(done.stdout)["changed"] is changed, done.stderr
        assert plant.serials("carried") == [facts(box).serial]
        shown = plant.agent("identity", "show", str(box), "--json")
        assert shown.returncode == 0
        assert msgspec.json.decode(shown.stdout)["state"] == "valid"
