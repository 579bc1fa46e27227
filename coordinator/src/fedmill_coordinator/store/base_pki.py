# SPDX-License-Identifier: Apache-2.0
"""What every store promises about certificates and enrolments."""

from abc import ABC, abstractmethod

from fedmill_coordinator.store.records_pki import CertificateRecord, EnrolmentRecord


class PkiRows(ABC):
    """The part of `Store` that is about who has, and who may get, a certificate."""

    @abstractmethod
    def add_certificate(self, record: CertificateRecord, *, follows: str = "") -> None:
        """Add a certificate, where the one of the number ``follows``, if any, still holds.

        So that nobody who was revoked a moment ago, by any process, goes on with another. MUST fail
        with StoreError if there is one of that serial number, or if that which it follows is
        revoked or not there.
        """

    @abstractmethod
    def certificates(self, agent: str | None = None) -> list[CertificateRecord]:
        """Certificates of one agent or all, by agent, time of issue and serial number."""

    @abstractmethod
    def revoked(self) -> list[CertificateRecord]:
        """Certificates that are revoked, sorted as those of `certificates`."""

    @abstractmethod
    def denied(self) -> list[str]:
        """Agents that had certificates all of which are revoked, by name."""

    @abstractmethod
    def revoke(self, agent: str, *, revoked_ns: int, reason: str, serial: str | None = None) -> int:
        """Revoke the certificates of ``agent``, or one of them; return how many became revoked.

        Those that were revoked before keep their time and reason. With all of them each enrolment
        of ``agent`` that is not over becomes ``rejected``, in the same moment: nobody slips in
        between with a code.
        """

    @abstractmethod
    def add_enrolment(self, record: EnrolmentRecord) -> None:
        """Let an agent enrol; an earlier leave of it that is not over becomes ``replaced``.

        MUST fail with StoreError if its state is not ``open``, or if there is one of that proof.
        """

    @abstractmethod
    def save_enrolment(
        self, record: EnrolmentRecord, certificate: CertificateRecord | None = None
    ) -> None:
        """Change an enrolment that is not over, and add the certificate that it leads to.

        Both or neither: whoever comes second, from any process, finds the code used. MUST fail
        with StoreError if there is none, if it is over, if it was for another agent, if another
        request came first, if exactly one of the state ``issued`` and ``certificate`` is given, if
        they name different serial numbers, or where `add_certificate` would fail.
        """

    @abstractmethod
    def enrolments(self, agent: str | None = None) -> list[EnrolmentRecord]:
        """Enrolments of one agent or all, by time, agent and proof."""
