# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102  what every method promises is said once, in PkiRows
"""Certificates and enrolments in a database."""

from sqlalchemy import Connection, func, select

from fedmill_coordinator.store import rules_pki
from fedmill_coordinator.store.database import add, find, found, key, save
from fedmill_coordinator.store.records_pki import CertificateRecord, EnrolmentRecord
from fedmill_coordinator.store.schema import certificates, enrolments
from fedmill_coordinator.store.sql_models import SqlModels

_ORDER = ("agent", "issued_ns", "serial")


class SqlPki(SqlModels):
    """The part of the SQL store that is about certificates and enrolments."""

    def add_certificate(self, record: CertificateRecord, *, follows: str = "") -> None:
        with self._database.write(f"certificate {record.serial}") as connection:
            if follows:
                before = find(connection, certificates, CertificateRecord, serial=follows)
                rules_pki.check_followed(record, before)
            _add_certificate(connection, record)

    def certificates(self, agent: str | None = None) -> list[CertificateRecord]:
        with self._database.read() as connection:
            return _certificates(connection, agent)

    def revoked(self) -> list[CertificateRecord]:
        query = select(certificates).where(certificates.c.revoked_ns > 0)
        return self._database.rows(query.order_by(*_ORDER), CertificateRecord)

    def denied(self) -> list[str]:
        agent = certificates.c.agent
        query = select(agent).where(key(certificates, role="agent")).group_by(agent)
        with self._database.read() as connection:
            bad = query.having(func.min(certificates.c.revoked_ns) > 0).order_by(agent)
            return list(connection.execute(bad).scalars())

    def revoke(self, agent: str, *, revoked_ns: int, reason: str, serial: str | None = None) -> int:
        count = 0
        with self._database.write(f"revocation of agent {agent!r}") as connection:
            for stored in _certificates(connection, agent):
                changed = rules_pki.revoked(stored, revoked_ns, reason, serial)
                if changed is not None:
                    save(connection, certificates, changed)
                    count += 1
            for enrolment in _enrolments(connection, agent) if serial is None else []:
                void = rules_pki.voided(enrolment, revoked_ns, reason)
                if void is not None:
                    save(connection, enrolments, void)
        return count

    def add_enrolment(self, record: EnrolmentRecord) -> None:
        with self._database.write(rules_pki.enrolment_name(record)) as connection:
            stored = find(connection, enrolments, EnrolmentRecord, proof=record.proof)
            added = rules_pki.new_enrolment(record, stored)
            for before in _enrolments(connection, record.agent):
                ended = rules_pki.replaced(before, added)
                if ended is not None:
                    save(connection, enrolments, ended)
            add(connection, enrolments, added)

    def save_enrolment(
        self, record: EnrolmentRecord, certificate: CertificateRecord | None = None
    ) -> None:
        with self._database.write(rules_pki.enrolment_name(record)) as connection:
            stored = find(connection, enrolments, EnrolmentRecord, proof=record.proof)
            changed = rules_pki.changed_enrolment(record, stored, certificate)
            if certificate is not None:
                _add_certificate(connection, certificate)
            save(connection, enrolments, changed)

    def enrolments(self, agent: str | None = None) -> list[EnrolmentRecord]:
        with self._database.read() as connection:
            return _enrolments(connection, agent)


def _add_certificate(connection: Connection, record: CertificateRecord) -> None:
    stored = find(connection, certificates, CertificateRecord, serial=record.serial)
    add(connection, certificates, rules_pki.new_certificate(record, stored))


def _certificates(connection: Connection, agent: str | None) -> list[CertificateRecord]:
    query = select(certificates).order_by(*_ORDER)
    if agent is not None:
        query = query.where(key(certificates, agent=agent))
    return found(connection, query, CertificateRecord)


def _enrolments(connection: Connection, agent: str | None) -> list[EnrolmentRecord]:
    query = select(enrolments).order_by("created_ns", "agent", "proof")
    if agent is not None:
        query = query.where(key(enrolments, agent=agent))
    return found(connection, query, EnrolmentRecord)
