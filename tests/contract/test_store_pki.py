# SPDX-License-Identifier: Apache-2.0
"""What every store keeps of certificates and enrolments: a code is good for one certificate."""

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from tests.contract.conftest import name

from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_pki import CertificateRecord, EnrolmentRecord
from fedmill_shared.errors import StoreError


def a_certificate(serial: str = "1", /, **fields: Any) -> CertificateRecord:
    """A certificate of press-1."""
    defaults = {
        "agent": "press-1",
        "public_key": b"k" * 32,
        "fingerprint": name(f"certificate {serial}"),
        "request": name("request"),
        "certificate": b"\x30\x00\xff",
        "not_before_ns": 90,
        "not_after_ns": 900,
        "issued_ns": 100,
    }
    return CertificateRecord(**{"serial": serial, **defaults, **fields})


def an_enrolment(proof: bytes = b"\0", /, **fields: Any) -> EnrolmentRecord:
    """Leave for press-1 to enrol."""
    defaults = {"agent": "press-1", "created_ns": 50, "expires_ns": 500, "by": "anna"}
    return EnrolmentRecord(**{"proof": proof * 32, **defaults, **fields})


def issued(record: EnrolmentRecord, serial: str = "1") -> EnrolmentRecord:
    """How ``record`` ends well."""
    return structs.replace(record, state="issued", serial=serial, request=b"csr", settled_ns=100)


class TestCertificates:
    def test_every_field_comes_back(self, store: Store) -> None:
        """Sorted by agent, then time; whoever asks for one agent gets no other's."""
        later = a_certificate("f" * 40, issued_ns=2**63 - 1, role="broker", reason="größer")
        other = a_certificate("2", agent="press-0", issued_ns=300, revoked_ns=5)
        for record in (later, a_certificate(), other):
            store.add_certificate(record)
        assert store.certificates() == [other, a_certificate(), later]
        assert store.certificates("press-1") == [a_certificate(), later]
        assert store.certificates("press-9") == []

    def test_who_is_denied(self, store: Store) -> None:
        """Whose certificates are all revoked, until there is a new one; no broker ever is."""
        for serial, agent in (("1", "press-1"), ("2", "press-1"), ("3", "press-2"), ("4", "a")):
            store.add_certificate(a_certificate(serial, agent=agent))
        store.add_certificate(a_certificate("5", agent="broker", role="broker"))
        assert (store.revoked(), store.denied()) == ([], [])
        store.revoke("press-1", revoked_ns=5, reason="lost", serial="2")
        store.revoke("broker", revoked_ns=6, reason="moved")
        assert [each.serial for each in store.revoked()] == ["5", "2"]
        assert store.denied() == []
        store.revoke("press-1", revoked_ns=7, reason="lost")
        store.revoke("a", revoked_ns=8, reason="sold")
        assert store.denied() == ["a", "press-1"]
        store.add_certificate(a_certificate("6"))
        assert store.denied() == ["a"]
        assert [each.serial for each in store.revoked()] == ["4", "5", "1", "2"]

    def test_revoked_once(self, store: Store) -> None:
        """One of them or all that are left; time and reason of the first stay."""
        for serial in ("1", "2", "3"):
            store.add_certificate(a_certificate(serial))
        store.add_certificate(a_certificate("4", agent="press-2"))
        assert store.revoke("press-1", revoked_ns=200, reason="lost", serial="2") == 1
        assert store.revoke("press-1", revoked_ns=300, reason="sold") == 2
        assert store.revoke("press-1", revoked_ns=400, reason="stolen") == 0
        assert store.revoke("press-1", revoked_ns=400, reason="no such", serial="4") == 0
        told = [(each.revoked_ns, each.reason) for each in store.certificates()]
        assert told == [(300, "sold"), (200, "lost"), (300, "sold"), (0, "")]

    @pytest.mark.parametrize(
        "wrong",
        [
            a_certificate(),
            a_certificate("0x2"),
            a_certificate("2", public_key=b"short"),
            a_certificate("2", role="owner"),
            a_certificate("2", fingerprint="f"),
            a_certificate("2", certificate=bytes(16_385)),
            a_certificate("2", not_after_ns=-1),
        ],
    )
    def test_what_is_no_certificate(
        self, store: Store, kit: SimpleNamespace, wrong: CertificateRecord
    ) -> None:
        """A serial number that is there, or a field that cannot be."""
        store.add_certificate(a_certificate())
        kit.refused(store, lambda: store.add_certificate(wrong))

    def test_one_that_follows_another(self, store: Store, kit: SimpleNamespace) -> None:
        """Not one that is revoked or not there, whoever revoked it and however late."""
        store.add_certificate(a_certificate("1"))
        store.add_certificate(a_certificate("2"), follows="1")
        kit.refused(store, lambda: store.add_certificate(a_certificate("3"), follows="9"))
        store.revoke("press-1", revoked_ns=5, reason="lost", serial="1")
        kit.refused(store, lambda: store.add_certificate(a_certificate("3"), follows="1"))
        store.add_certificate(a_certificate("3"), follows="2")

    def test_codes_go_with_all_certificates(self, store: Store, kit: SimpleNamespace) -> None:
        """In the same moment: who comes with one a moment later is no agent again."""
        store.add_certificate(a_certificate())
        code, other = an_enrolment(b"1"), an_enrolment(b"2", agent="press-2")
        store.add_enrolment(code)
        store.add_enrolment(other)
        store.revoke("press-1", revoked_ns=60, reason="", serial="1")
        assert store.enrolments() == [code, other]
        store.revoke("press-1", revoked_ns=70, reason="stolen")
        void = structs.replace(code, state="rejected", settled_ns=70, reason="stolen")
        assert store.enrolments() == [void, other]
        kit.refused(store, lambda: store.save_enrolment(issued(code, "2"), a_certificate("2")))
        assert store.denied() == ["press-1"]

    def test_impossible_revocation(self, store: Store, kit: SimpleNamespace) -> None:
        """A time before all times changes nothing."""
        store.add_certificate(a_certificate())
        kit.refused(store, lambda: store.revoke("press-1", revoked_ns=-1, reason=""))


class TestEnrolments:
    def test_every_field_comes_back(self, store: Store) -> None:
        """Before a box came, and after one did."""
        store.add_enrolment(an_enrolment(confirm=True))
        assert store.enrolments() == [an_enrolment(confirm=True)]
        pending = an_enrolment(
            confirm=True,
            state="pending",
            request=b"\x30\0\xff",
            software="0.7.0",
            settled_ns=70,
            settled_by="ben",
            reason="größer",
        )
        store.save_enrolment(pending)
        assert store.enrolments("press-1") == [pending]
        assert store.enrolments("press-2") == []

    def test_one_code_for_one_agent(self, store: Store) -> None:
        """A later code ends the one that nobody has used, and nothing that is over."""
        over = an_enrolment(b"1", created_ns=10)
        store.add_enrolment(over)
        store.save_enrolment(issued(over), a_certificate())
        other = an_enrolment(b"2", agent="press-2", created_ns=20)
        store.add_enrolment(other)
        first, second = an_enrolment(b"3", created_ns=30), an_enrolment(b"4", created_ns=40)
        store.add_enrolment(first)
        store.add_enrolment(second)
        gone = structs.replace(
            first, state="replaced", settled_ns=40, reason="a later code took its place"
        )
        assert store.enrolments() == [issued(over), other, gone, second]

    def test_a_code_is_used_once(self, store: Store, kit: SimpleNamespace) -> None:
        """Who comes second gets nothing, whatever it says."""
        store.add_enrolment(an_enrolment())
        store.save_enrolment(issued(an_enrolment()), a_certificate())
        again = issued(an_enrolment(), "2")
        kit.refused(store, lambda: store.save_enrolment(again, a_certificate("2")), "it is issued")
        back = an_enrolment(state="pending", request=b"csr")
        kit.refused(store, lambda: store.save_enrolment(back), "it is issued")
        assert store.certificates() == [a_certificate()]

    def test_the_first_request_counts(self, store: Store, kit: SimpleNamespace) -> None:
        """Another one with the same code cannot take the place of one that waits."""
        store.add_enrolment(an_enrolment())
        pending = an_enrolment(state="pending", request=b"csr")
        store.save_enrolment(pending)
        other = structs.replace(pending, request=b"other")
        kit.refused(store, lambda: store.save_enrolment(other), "another request came first")
        store.save_enrolment(structs.replace(pending, state="accepted", settled_by="ben"))
        store.save_enrolment(issued(an_enrolment()), a_certificate())

    @pytest.mark.parametrize("state", ["rejected", "expired", "replaced"])
    def test_what_is_over_stays_over(self, store: Store, kit: SimpleNamespace, state: str) -> None:
        """However it ended."""
        store.add_enrolment(an_enrolment())
        store.save_enrolment(an_enrolment(state=state))
        again = issued(an_enrolment())
        kit.refused(store, lambda: store.save_enrolment(again, a_certificate()), f"it is {state}")

    @pytest.mark.parametrize(
        ("changed", "certificate"),
        [
            (issued(an_enrolment()), None),
            (an_enrolment(state="pending"), a_certificate()),
            (issued(an_enrolment(), "2"), a_certificate()),
            (issued(an_enrolment()), a_certificate(agent="press-2")),
            (issued(an_enrolment(), "9"), a_certificate("9")),
            (issued(an_enrolment(agent="press-2")), a_certificate(agent="press-2")),
            (issued(an_enrolment(expires_ns=501)), a_certificate()),
            (issued(an_enrolment(b"1")), a_certificate()),
            (an_enrolment(state="forgotten"), None),
            (issued(an_enrolment()), a_certificate(issued_ns=-1)),
        ],
    )
    def test_all_or_nothing(
        self,
        store: Store,
        kit: SimpleNamespace,
        changed: EnrolmentRecord,
        certificate: CertificateRecord | None,
    ) -> None:
        """A certificate without its code, a code without its certificate, or of another agent."""
        store.add_enrolment(an_enrolment())
        store.add_certificate(a_certificate("9", agent="press-3"))
        kit.refused(store, lambda: store.save_enrolment(changed, certificate))

    @pytest.mark.parametrize(
        "wrong",
        [
            an_enrolment(),
            an_enrolment(b"1", state="pending"),
            an_enrolment(b"12"),
            an_enrolment(b"1", created_ns=-1),
        ],
    )
    def test_what_cannot_begin(
        self, store: Store, kit: SimpleNamespace, wrong: EnrolmentRecord
    ) -> None:
        """A code that is there goes on to be good."""
        store.add_enrolment(an_enrolment())
        kit.refused(store, lambda: store.add_enrolment(wrong))
        with pytest.raises(StoreError, match="there is no enrolment of agent 'press-1'"):
            store.save_enrolment(an_enrolment(b"9", state="rejected"))


class TestSignedUpdates:
    def test_every_field_comes_back(self, job: Store, kit: SimpleNamespace) -> None:
        """Who signed, what, and how; an unsigned one has none of it."""
        job.open_round(kit.round())
        unsigned = kit.update()
        signed = kit.update("press-2", key="ab12", origin=b"\x81\0\xff", signature=b"\xff" * 64)
        assert job.add_update(unsigned)
        assert job.add_update(signed)
        assert job.pending(unsigned.job) == [unsigned, signed]
