# SPDX-License-Identifier: Apache-2.0
"""What a person decides: codes, acceptance, and certificates for requests that were fetched."""

import pytest
from tests.coordinator.pki.kit import DAY, HOUR, Box, Office

from fedmill_coordinator.pki.authority import Authority
from fedmill_coordinator.pki.enrolling import Preauthorised, decide, preauthorise, standing
from fedmill_coordinator.pki.register import Register
from fedmill_shared.crypto.certificates import read_certificate
from fedmill_shared.errors import IdentityError


class TestCode:
    def test_keeps_nothing_that_could_enrol(self, office: Office) -> None:
        """Neither the code nor its secret is in what is stored."""
        box = office.box()
        assert box.code is not None
        [record] = office.store.enrolments("gw7")
        assert record.proof == box.code.proof_key()
        assert box.code.secret not in record.proof
        assert box.code.secret.hex() not in repr(record)
        assert box.code.fits(read_certificate(office.authority.pem).fingerprint)
        assert record.expires_ns - record.created_ns == DAY * 10**9

    def test_runs_out_without_anybody(self, office: Office) -> None:
        """Listings say so at once."""
        office.box(hours=1)
        [record] = office.store.enrolments()
        now = office.clock.now_ns()
        assert (standing(record, now).state, standing(record, now).waits) == ("open", True)
        later = standing(record, now + HOUR * 10**9)
        assert (later.state, later.waits, later.request) == ("expired", False, "")


class TestDecision:
    def decide(self, office: Office, *, accepted: bool) -> str:
        """What becomes of gw7."""
        now = office.clock.now_ns()
        decided = decide(office.store, "gw7", accepted=accepted, reason="no", by="ben", now_ns=now)
        office.store.save_enrolment(decided)
        return decided.state

    def test_of_nothing(self, office: Office) -> None:
        """Before there is a code, before a box came, and after it was accepted."""
        for told in ("no code that is good", "its code is open"):
            with pytest.raises(IdentityError, match=told):
                self.decide(office, accepted=True)
            office.box(confirm=True)
        box = office.box(confirm=True)
        office.enrol(box)
        assert self.decide(office, accepted=True) == "accepted"
        with pytest.raises(IdentityError, match="its code is accepted"):
            self.decide(office, accepted=True)
        office.enrol(box)
        with pytest.raises(IdentityError, match="no code that is good"):
            self.decide(office, accepted=False)

    def test_a_code_is_withdrawn(self, office: Office) -> None:
        """Before anybody came with it, or after that was accepted by mistake."""
        box = office.box()
        assert self.decide(office, accepted=False) == "rejected"
        assert office.enrol(box).state == "refused"
        box = office.box(confirm=True)
        office.enrol(box)
        self.decide(office, accepted=True)
        assert self.decide(office, accepted=False) == "rejected"
        assert office.enrol(box).state == "refused"


class TestPreauthorise:
    def preauthorise(self, office: Office, box: Box, agent: str = "gw7") -> Preauthorised:
        """A request that was fetched, and what is kept of it."""
        found = preauthorise(office.register, office.store, agent, box.csr)
        if found.new:
            office.store.add_certificate(found.record)
        return found

    def test_again_and_again(self, office: Office) -> None:
        """A play that is run every day changes nothing until the certificate has run out."""
        box = Box("gw7")
        first = self.preauthorise(office, box)
        office.clock.advance(89 * DAY)
        again = self.preauthorise(office, box)
        assert (first.new, again.new) == (True, False)
        assert again.record.certificate == first.record.certificate
        office.clock.advance(DAY + 1)
        assert self.preauthorise(office, box).new

    def test_of_an_authority_before(self, office: Office) -> None:
        """Whoever lost it enrols all anew: the same key gets a certificate of the new one."""
        box = Box("gw7")
        first = self.preauthorise(office, box)
        new = Authority.make("Plant CA", office.clock.now_ns())
        register = Register(new, office.store, office.clock, days=90, crl=office.crl)
        again = preauthorise(register, office.store, "gw7", box.csr)
        assert again.new
        assert again.record.serial != first.record.serial

    def test_another_key(self, office: Office) -> None:
        """A box that was set up anew has another certificate."""
        first, second = Box("gw7"), Box("gw7")
        serials = {self.preauthorise(office, box).record.serial for box in (first, second)}
        assert len(serials) == 2

    def test_may_renew_and_enrol_like_any_other(self, office: Office) -> None:
        """It is a certificate as from a code."""
        box = Box("gw7")
        self.preauthorise(office, box)
        office.clock.advance(60 * DAY)
        assert office.renew(box, Box("gw7")).state == "issued"

    def test_not_for_another(self, office: Office) -> None:
        """A request that was fetched from the wrong box, or names us."""
        with pytest.raises(IdentityError, match="of 'gw8', not of 'gw7'"):
            self.preauthorise(office, Box("gw8"))
        with pytest.raises(IdentityError, match="no agent may be called"):
            self.preauthorise(office, Box("broker"), "broker")

    def test_not_for_a_key_that_was_revoked(self, office: Office) -> None:
        """A thief has it."""
        box = Box("gw7")
        self.preauthorise(office, box)
        office.store.revoke("gw7", revoked_ns=office.clock.now_ns(), reason="stolen")
        with pytest.raises(IdentityError, match="was revoked"):
            self.preauthorise(office, box)
        assert self.preauthorise(office, Box("gw7")).new
