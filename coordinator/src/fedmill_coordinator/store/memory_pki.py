# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in PkiRows
"""Certificates and enrolments in memory."""

from fedmill_coordinator.store import rules_pki
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_pki import CertificateRecord, EnrolmentRecord


class MemoryPki(Store):
    """The part of the store in memory that is about certificates and enrolments."""

    def __init__(self) -> None:
        """No certificate, and no leave to get one."""
        super().__init__()
        self._certificates: dict[str, CertificateRecord] = {}
        self._enrolments: dict[bytes, EnrolmentRecord] = {}

    def add_certificate(self, record: CertificateRecord, *, follows: str = "") -> None:
        stored = self._certificates.get(record.serial)
        if follows:
            rules_pki.check_followed(record, self._certificates.get(follows))
        self._certificates[record.serial] = rules_pki.new_certificate(record, stored)

    def certificates(self, agent: str | None = None) -> list[CertificateRecord]:
        found = [each for each in self._certificates.values() if agent in (None, each.agent)]
        return sorted(found, key=lambda each: (each.agent, each.issued_ns, each.serial))

    def revoked(self) -> list[CertificateRecord]:
        return [each for each in self.certificates() if each.revoked_ns]

    def denied(self) -> list[str]:
        agents = [each for each in self._certificates.values() if each.role == "agent"]
        good = {each.agent for each in agents if not each.revoked_ns}
        return sorted({each.agent for each in agents} - good)

    def revoke(self, agent: str, *, revoked_ns: int, reason: str, serial: str | None = None) -> int:
        told = [
            rules_pki.revoked(each, revoked_ns, reason, serial) for each in self.certificates(agent)
        ]
        changed = {each.serial: each for each in told if each is not None}
        self._certificates.update(changed)
        for enrolment in self.enrolments(agent) if serial is None else []:
            void = rules_pki.voided(enrolment, revoked_ns, reason)
            if void is not None:
                self._enrolments[void.proof] = void
        return len(changed)

    def add_enrolment(self, record: EnrolmentRecord) -> None:
        added = rules_pki.new_enrolment(record, self._enrolments.get(record.proof))
        for stored in self.enrolments(record.agent):
            ended = rules_pki.replaced(stored, added)
            if ended is not None:
                self._enrolments[ended.proof] = ended
        self._enrolments[added.proof] = added

    def save_enrolment(
        self, record: EnrolmentRecord, certificate: CertificateRecord | None = None
    ) -> None:
        stored = self._enrolments.get(record.proof)
        changed = rules_pki.changed_enrolment(record, stored, certificate)
        if certificate is not None:
            self.add_certificate(certificate)
        self._enrolments[record.proof] = changed

    def enrolments(self, agent: str | None = None) -> list[EnrolmentRecord]:
        found = [each for each in self._enrolments.values() if agent in (None, each.agent)]
        return sorted(found, key=lambda each: (each.created_ns, each.agent, each.proof))
