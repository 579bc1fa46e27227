# SPDX-License-Identifier: Apache-2.0
"""An agent and its next certificate: a new key each time, vouched for by the one it has."""

from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.coordinator.pki.kit import DAY, HOUR, Box, Office

from fedmill_shared.crypto.certificates import make_request, read_certificate
from fedmill_shared.crypto.codes import sign_renewal
from fedmill_shared.crypto.keys import key_id, public_bytes
from fedmill_shared.errors import StoreError


class TestRenewal:
    def test_at_two_thirds_of_its_life(self, office: Office) -> None:
        """The next certificate has another key; the one before is good until it ends."""
        box, following = office.enrolled(), Box("gw7")
        office.clock.advance(60 * DAY)
        answer = office.renew(box, following)
        assert answer.state == "issued"
        facts = read_certificate(answer.certificate)
        assert (facts.agent, facts.public) == ("gw7", public_bytes(following.key))
        assert answer.ca == office.authority.pem
        assert [each.revoked_ns for each in office.store.certificates("gw7")] == [0, 0]
        assert office.notes.lines[-1] == ("agent gw7", "certificate.renewed", "gw7")
        before, after = (f"serial {each.serial}" for each in office.store.certificates("gw7"))
        assert office.notes.changes[-1] == ("certificate.renewed", before, after)

    def test_asked_again(self, office: Office) -> None:
        """The answer was lost, or the coordinator was killed: the same one, also at once."""
        box, following = office.enrolled(), Box("gw7")
        office.clock.advance(60 * DAY)
        answers = [office.renew(box, following) for _ in range(3)]
        assert len({each.certificate for each in answers}) == 1
        assert {each.state for each in answers} == {"issued"}
        assert len(office.store.certificates("gw7")) == 2

    def test_many_in_a_row(self, office: Office) -> None:
        """Each key vouches for the next."""
        box = office.enrolled()
        for _ in range(5):
            office.clock.advance(60 * DAY)
            following = Box("gw7")
            assert office.renew(box, following).state == "issued"
            box = following

    def test_too_early(self, office: Office) -> None:
        """Not twice in an hour: come back; nothing is issued."""
        box = office.enrolled()
        office.clock.advance(HOUR - 1)
        answer = office.renew(box, Box("gw7"))
        assert (answer.state, answer.certificate) == ("pending", b"")
        assert answer.retry_after == pytest.approx(1.0)
        office.clock.advance(1)
        assert office.renew(box, Box("gw7")).state == "issued"

    def test_a_clock_that_was_set_back(self, office: Office) -> None:
        """Certificates of the future hold nobody up."""
        box = office.enrolled()
        office.clock.advance(30 * DAY)
        following = Box("gw7")
        assert office.renew(box, following).state == "issued"
        office.clock.advance(-20 * DAY)
        assert office.renew(box, Box("gw7")).state == "issued"

    def test_what_a_wrong_clock_of_ours_issued(self, office: Office) -> None:
        """A certificate of next month is none now: the same request gets one that holds."""
        box, following = office.enrolled(), Box("gw7")
        office.clock.advance(80 * DAY)
        early = office.renew(box, following)
        office.clock.advance(-30 * DAY)
        answer = office.renew(box, following)
        assert (early.state, answer.state) == ("issued", "issued")
        assert answer.certificate != early.certificate
        facts = read_certificate(answer.certificate)
        assert facts.not_before_ns <= office.clock.now_ns() < facts.not_after_ns
        assert office.renew(box, following).certificate == answer.certificate


class TestRefusal:
    def refused(self, office: Office, box: Box, following: Box, told: str, **fields: Any) -> None:
        """With this sentence; nothing is issued."""
        held = office.store.certificates()
        with capture_logs() as logs:
            answer = office.renew(box, following, **fields)
        assert (answer.state, answer.certificate) == ("refused", b"")
        assert told in answer.reason
        assert [log["event"] for log in logs] == ["certificate.refused"]
        assert office.store.certificates() == held

    @pytest.fixture
    def box(self, office: Office) -> Box:
        """One whose certificate is two months old."""
        box = office.enrolled()
        office.clock.advance(60 * DAY)
        return box

    def test_too_late(self, office: Office, box: Box) -> None:
        """A certificate that has run out vouches for nothing."""
        office.clock.advance(30 * DAY)
        self.refused(office, box, Box("gw7"), "enrol again with a new code")

    def test_after_revocation(self, office: Office, box: Box) -> None:
        """Also when the next request was answered before."""
        following = Box("gw7")
        office.renew(box, following)
        office.store.revoke("gw7", revoked_ns=office.clock.now_ns(), reason="lost")
        self.refused(office, box, following, "is revoked")
        office.clock.advance(2 * HOUR)
        self.refused(office, following, Box("gw7"), "is revoked")

    def test_in_the_moment_of_revocation(
        self, office: Office, box: Box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thief who asks while the command runs is no agent again by that."""

        def revoke(**_: object) -> None:
            office.store.revoke("gw7", revoked_ns=office.clock.now_ns(), reason="stolen")

        monkeypatch.setattr(office.notes, "record", revoke)
        with pytest.raises(StoreError, match="the one before it is revoked"):
            office.renew(box, Box("gw7"))
        assert office.store.denied() == ["gw7"]

    def test_one_revoked_key_among_good_ones(self, office: Office, box: Box) -> None:
        """What was signed with it is worth nothing."""
        following = Box("gw7")
        office.renew(box, following)
        serial = office.store.certificates("gw7")[0].serial
        office.store.revoke("gw7", revoked_ns=office.clock.now_ns(), reason="", serial=serial)
        office.clock.advance(2 * HOUR)
        self.refused(office, box, Box("gw7"), "is revoked")
        assert office.renew(following, Box("gw7")).state == "issued"

    def test_whoever_has_no_certificate(self, office: Office, box: Box) -> None:
        """A key of nobody's, or of another agent's."""
        self.refused(office, Box("gw7"), Box("gw7"), "none of this agent")
        other = office.enrolled("gw8")
        office.clock.advance(2 * HOUR)
        thief = Box("gw7", key=other.key)
        self.refused(office, thief, Box("gw7"), "none of this agent")

    def test_a_certificate_of_another(self, office: Office, box: Box) -> None:
        """An agent asks for itself, on its own topic, whatever the request says."""
        office.enrolled("gw8")
        office.clock.advance(2 * HOUR)
        csr = make_request(Box("gw8").key, "gw8")
        signature = sign_renewal(box.key, "gw7", csr)
        self.refused(
            office, box, box, "the certificate request is of 'gw8'", csr=csr, signature=signature
        )

    def test_the_same_key_again(self, office: Office, box: Box) -> None:
        """Renewal is a new key; an old one of the agent is none either."""
        again = Box("gw7", key=box.key)
        csr = make_request(box.key, "gw7")
        # The request is the one that was answered at enrolment, so that certificate comes again.
        assert office.renew(box, again, csr=csr).state == "issued"
        assert len(office.store.certificates("gw7")) == 1
        other = b"the same again\n" + csr
        self.refused(
            office,
            box,
            again,
            "a key that was used before",
            csr=other,
            signature=sign_renewal(box.key, "gw7", other),
        )

    def test_signatures_that_do_not_fit(self, office: Office, box: Box) -> None:
        """Of another request, another agent, another key, or of nothing."""
        following = Box("gw7")
        for signature in (
            bytes(64),
            sign_renewal(box.key, "gw7", Box("gw7").csr),
            sign_renewal(box.key, "gw8", following.csr),
            sign_renewal(following.key, "gw7", following.csr),
        ):
            self.refused(office, box, following, "does not fit", signature=signature)
        self.refused(
            office, box, following, "none of this agent", key=key_id(public_bytes(following.key))
        )

    @pytest.mark.parametrize("name", ["coordinator", "broker"])
    def test_names_of_ours(self, office: Office, name: str) -> None:
        """Though the store has a certificate of that name."""
        box = Box(name)
        record = office.register.coordinator(name, public_bytes(box.key), days=90)
        office.store.add_certificate(record)
        office.clock.advance(60 * DAY)
        self.refused(office, box, Box(name), f"no agent may be called {name!r}")
