# SPDX-License-Identifier: Apache-2.0
"""A box and its code: one certificate for one request, and a sentence for everything else."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs
from tests.coordinator.pki.kit import DAY, HOUR, Box, Office

from fedmill_coordinator.pki.enrolling import decide
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.crypto.certificates import make_request, read_certificate
from fedmill_shared.crypto.codes import make_code, prove
from fedmill_shared.crypto.issuer import check_issued
from fedmill_shared.crypto.keys import public_bytes
from fedmill_shared.errors import AuditError, StoreError
from fedmill_shared.files import sha256


class TestIssue:
    def test_a_certificate_for_the_key_of_the_box(self, office: Office) -> None:
        """Ninety days, for the agent, by the authority that comes with it."""
        box = office.box()
        with capture_logs() as logs:
            answer = office.enrol(box)
        assert answer.state == "issued"
        assert answer.sent_ns == office.clock.now_ns()
        facts = read_certificate(answer.certificate)
        assert (facts.agent, facts.public) == ("gw7", public_bytes(box.key))
        assert facts.not_before_ns < office.clock.now_ns() < facts.not_after_ns
        assert facts.not_after_ns - office.clock.now_ns() == 90 * DAY * 10**9
        check_issued(answer.certificate, answer.ca)
        [record] = office.store.certificates("gw7")
        assert (record.serial, record.fingerprint) == (facts.serial, facts.fingerprint)
        assert record.request == sha256(box.csr)
        assert [log["event"] for log in logs] == ["certificate.issued"]
        assert office.notes.lines == [("anna", "certificate.issued", "gw7")]

    def test_asked_again(self, office: Office) -> None:
        """The answer was lost: the same request gets the same certificate, for months."""
        box = office.box(hours=1)
        first = office.enrol(box)
        office.clock.advance(60 * DAY)
        again = office.enrol(box)
        assert (again.state, again.certificate) == ("issued", first.certificate)
        assert len(office.store.certificates()) == 1
        assert office.events() == ["certificate.issued"]

    def test_not_a_certificate_that_is_worth_nothing(self, office: Office) -> None:
        """One that has run out or was revoked is not handed out again."""
        box = office.enrolled()
        office.clock.advance(91 * DAY)
        assert "has run out" in office.enrol(box).reason
        other = office.enrolled("gw8")
        office.store.revoke("gw8", revoked_ns=office.clock.now_ns(), reason="lost")
        assert "revoked" in office.enrol(other).reason

    def test_a_disk_that_fails(self, tmp_path: Path) -> None:
        """Nothing is issued that could not be kept; the box asks again and is served."""
        with SqlStore.in_file(tmp_path / "f.sqlite") as store:
            office = Office(tmp_path, store)
            box = office.box()
            office.notes.failure = AuditError("line 7 was changed", remedy="restore it")
            with pytest.raises(StoreError, match="line 7 was changed"):
                office.enrol(box)
            assert (office.state(), store.certificates()) == ("open", [])
            office.notes.failure = None
            assert office.enrol(box).state == "issued"


class TestRefusal:
    def refused(self, office: Office, box: Box, told: str, **changes: Any) -> None:
        """The request is refused with this sentence, and nobody gets anything."""
        held = office.store.certificates()
        with capture_logs() as logs:
            answer = office.enrol(box, **changes)
        assert (answer.state, answer.certificate, answer.ca) == ("refused", b"", b"")
        assert told in answer.reason
        assert "enrolment.refused" in [log["event"] for log in logs]
        assert office.store.certificates() == held

    def test_another_request_with_a_used_code(self, office: Office) -> None:
        """A replay with a key of somebody else's, though it knows the code."""
        box = office.enrolled()
        thief = Box("gw7", box.code)
        with capture_logs() as logs:
            self.refused(office, thief, "used before, with another request")
            office.enrol(thief)
        assert "enrolment.replayed" in [log["event"] for log in logs]

    def test_an_old_code(self, office: Office) -> None:
        """At its very end; and it stays so if the clock goes back."""
        box = office.box(hours=24)
        office.clock.advance(24 * HOUR)
        self.refused(office, box, "the code has run out")
        assert office.state() == "expired"
        assert office.notes.changes == [("enrolment.expired", "open", "expired")]
        office.clock.advance(-HOUR)
        self.refused(office, box, "the code has run out")

    def test_a_replaced_code(self, office: Office) -> None:
        """The later one is good."""
        first, second = office.box(), office.box()
        self.refused(office, first, "a later code took the place")
        assert office.enrol(second).state == "issued"

    def test_whoever_knows_no_code(self, office: Office) -> None:
        """A stranger hears the same, whether the agent is expected or not."""
        expected = office.box()
        stranger = Box("gw7", make_code(office.authority.fingerprint))
        self.refused(office, stranger, "is not, or no longer, good for this agent")
        nobody = Box("gw9", expected.code)
        self.refused(office, nobody, office.enrol(stranger).reason)
        assert office.state() == "open"

    def test_the_code_of_another_agent(self, office: Office) -> None:
        """It opens one door."""
        seven, _ = office.box("gw7"), office.box("gw8")
        self.refused(office, Box("gw8", seven.code), "not, or no longer, good")

    def test_a_request_of_another_agent(self, office: Office) -> None:
        """The name in the request counts as well, even with a good proof."""
        box = office.box()
        assert box.code is not None
        csr = make_request(box.key, "gw8")
        proof = prove(box.code, "gw7", csr)
        self.refused(office, box, "the certificate request is of 'gw8'", csr=csr, proof=proof)

    def test_a_request_that_was_tampered_with(self, office: Office) -> None:
        """On its way: the proof does not fit. On the box: its own signature does not."""
        box = office.box()
        assert box.code is not None
        other = Box("gw7").csr
        self.refused(office, box, "not, or no longer, good", csr=other)
        lines = box.csr.splitlines(keepends=True)
        damaged = b"".join([lines[0], lines[1][:20] + b"AAAA" + lines[1][24:], *lines[2:]])
        proof = prove(box.code, "gw7", damaged)
        self.refused(office, box, "certificate request", csr=damaged, proof=proof)
        for csr in (b"", b"not PEM", bytes(4096)):
            proof = prove(box.code, "gw7", csr)
            self.refused(office, box, "certificate request", csr=csr, proof=proof)
        assert office.state() == "open"
        assert office.enrol(box).state == "issued"

    @pytest.mark.parametrize("name", ["coordinator", "broker", "all", "enrol"])
    def test_names_of_ours(self, office: Office, name: str) -> None:
        """No code makes anybody the coordinator, even one that was printed for it."""
        self.refused(office, office.box(name), f"no agent may be called {name!r}")


class TestConfirm:
    def test_waits_until_somebody_accepts(self, office: Office) -> None:
        """However often it asks; then it has its certificate, once."""
        box = office.box(confirm=True)
        with capture_logs() as logs:
            answers = [office.enrol(box) for _ in range(3)]
        assert [each.state for each in answers] == ["pending"] * 3
        assert answers[0].retry_after > 0
        assert "enrol accept" in answers[0].reason
        assert [log["event"] for log in logs] == ["enrolment.pending"]
        assert office.store.certificates() == []
        self.decide(office, accepted=True)
        assert office.enrol(box).state == "issued"
        assert office.enrol(box).state == "issued"
        assert office.notes.lines == [
            ("agent gw7", "enrolment.requested", "gw7"),
            ("ben", "certificate.issued", "gw7"),
        ]
        what, before, after = office.notes.changes[0]
        assert (what, before) == ("enrolment.requested", "open")
        assert after == f"pending {sha256(box.csr)[:16]}"

    def test_the_first_box_counts(self, office: Office) -> None:
        """Another one with the same code is a thief's, or the thief was first: a person decides."""
        box = office.box(confirm=True)
        office.enrol(box)
        thief = Box("gw7", box.code)
        assert "used before" in office.enrol(thief).reason
        self.decide(office, accepted=True)
        assert "used before" in office.enrol(thief).reason
        assert office.enrol(box).state == "issued"

    def test_rejected(self, office: Office) -> None:
        """For good."""
        box = office.box(confirm=True)
        office.enrol(box)
        self.decide(office, accepted=False)
        assert office.enrol(box).state == "refused"
        assert "rejected" in office.enrol(box).reason
        assert office.state() == "rejected"

    def test_who_came_in_time_may_wait_longer(self, office: Office) -> None:
        """The code has run out meanwhile; whoever accepts may come tomorrow."""
        box = office.box(hours=1, confirm=True)
        office.enrol(box)
        office.clock.advance(2 * DAY)
        assert office.enrol(box).state == "pending"
        self.decide(office, accepted=True)
        assert office.enrol(box).state == "issued"

    def test_a_race_with_a_command(self, tmp_path: Path) -> None:
        """The code is replaced while its request is dealt with: who comes second gets nothing."""
        with SqlStore.in_file(tmp_path / "f.sqlite") as store:
            office = Office(tmp_path, store)
            box = office.box()
            [stale] = store.enrolments("gw7")
            office.box()
            late = structs.replace(stale, state="issued", serial="1")
            record = office.register.agent("gw7", public_bytes(box.key), box.csr)
            with pytest.raises(StoreError, match="it is replaced"):
                store.save_enrolment(structs.replace(late, serial=record.serial), record)
            assert store.certificates() == []

    def decide(self, office: Office, *, accepted: bool) -> None:
        """A person says yes or no."""
        now = office.clock.now_ns()
        decided = decide(office.store, "gw7", accepted=accepted, reason="", by="ben", now_ns=now)
        office.store.save_enrolment(decided)
