# SPDX-License-Identifier: Apache-2.0
"""Rules about certificates and enrolments that every store keeps."""

from msgspec import structs

from fedmill_coordinator.store import rules
from fedmill_coordinator.store.records import checked
from fedmill_coordinator.store.records_pki import CertificateRecord, EnrolmentRecord

WAITING = ("open", "pending", "accepted")
"""States of an enrolment that is not over."""
REPLACED_REASON = "a later code took its place"
_FIXED = ("agent", "created_ns", "expires_ns", "confirm", "by")


def new_certificate(
    record: CertificateRecord, stored: CertificateRecord | None
) -> CertificateRecord:
    """``record``, checked, if ``stored`` does not have its serial number.

    Raises:
        StoreError: it does.
    """
    if stored is not None:
        raise rules.conflict(f"certificate {record.serial}", "it is there")
    return checked(record)


def check_followed(record: CertificateRecord, before: CertificateRecord | None) -> None:
    """Return if ``record`` may follow ``before``.

    Raises:
        StoreError: that is not there, or is revoked.
    """
    if before is None or before.revoked_ns:
        raise rules.conflict(f"certificate {record.serial}", "the one before it is revoked")


def revoked(
    record: CertificateRecord, revoked_ns: int, reason: str, serial: str | None
) -> CertificateRecord | None:
    """``record`` as revoked; None if it was before, or if another one is meant.

    Raises:
        StoreError: the time is impossible.
    """
    if record.revoked_ns or serial not in (None, record.serial):
        return None
    return checked(structs.replace(record, revoked_ns=revoked_ns, reason=reason))


def new_enrolment(record: EnrolmentRecord, stored: EnrolmentRecord | None) -> EnrolmentRecord:
    """``record``, checked, if ``stored`` does not have its proof.

    Raises:
        StoreError: it does, or is not open.
    """
    if record.state != "open":
        raise rules.conflict(enrolment_name(record), f"it cannot begin as {record.state}")
    if stored is not None:
        raise rules.conflict(enrolment_name(record), "its code is there")
    return checked(record)


def replaced(record: EnrolmentRecord, by: EnrolmentRecord) -> EnrolmentRecord | None:
    """``record`` as it ends with the enrolment ``by`` of the same agent; None if it is over."""
    if record.state not in WAITING:
        return None
    return structs.replace(
        record, state="replaced", settled_ns=by.created_ns, reason=REPLACED_REASON
    )


def voided(record: EnrolmentRecord, revoked_ns: int, reason: str) -> EnrolmentRecord | None:
    """``record`` as it ends with the certificates of its agent; None if it is over."""
    if record.state not in WAITING:
        return None
    return structs.replace(record, state="rejected", settled_ns=revoked_ns, reason=reason)


def changed_enrolment(
    record: EnrolmentRecord,
    stored: EnrolmentRecord | None,
    certificate: CertificateRecord | None,
) -> EnrolmentRecord:
    """``record``, checked, if it may take the place of ``stored`` and lead to ``certificate``.

    Raises:
        StoreError: there is none, it is over or about something else, or the certificate does not
            belong to it.
    """
    what = enrolment_name(record)
    if stored is None:
        raise rules.unknown(what)
    if stored.state not in WAITING:
        raise rules.conflict(what, f"it is {stored.state}")
    if any(getattr(record, field) != getattr(stored, field) for field in _FIXED):
        raise rules.conflict(what, "it was made for something else")
    if stored.request and record.request != stored.request:
        raise rules.conflict(what, "another request came first")
    named = (record.agent, record.serial) if record.state == "issued" else None
    if named != (certificate and (certificate.agent, certificate.serial)):
        raise rules.conflict(what, "its certificate is not the one it names")
    return checked(record)


def enrolment_name(record: EnrolmentRecord) -> str:
    """What an enrolment is called in errors."""
    return f"enrolment of agent {record.agent!r}"
