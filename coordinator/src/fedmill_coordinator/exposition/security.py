# SPDX-License-Identifier: Apache-2.0
"""Metrics of who may speak and what is trusted: certificates, enrolments, signed metadata."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import product
from pathlib import Path

from msgspec import Struct, json

from fedmill_coordinator.exposition.metric import Known, Sample, metric
from fedmill_coordinator.pki.door import COUNT, ENROLMENT, FATES, RENEWAL
from fedmill_coordinator.pki.enrolling import standing
from fedmill_coordinator.pki.terms import terms
from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_shared.messages import UNREADABLE

MOST_BYTES = 1 << 20
"""Bytes of a file of metadata that is read."""
METADATA_FOLDER = "metadata"
ROLES = ("root", "targets", "software", "models", "snapshot", "timestamp")
UNDER_WAY = ("open", "pending", "accepted")

EXPIRY = metric(
    "agent_certificate_expiry_timestamp_seconds",
    "When the agent's newest certificate that is not revoked ends to be valid.",
    "agent",
)
DENIED = metric("agent_denied", "1 for each agent whose messages are dropped.", "agent")
DENIED_COUNT = metric("agents_denied", "Agents whose messages are dropped.")
OWN = metric(
    "certificate_expiry_timestamp_seconds",
    "When the coordinator's own certificate, the broker's or the authority's ends to be valid.",
    "whose",
)
ENROLMENTS = metric(
    "enrolments", "Codes that nobody has used, or that wait for an operator, by state.", "state"
)
REQUESTS = metric(
    "certificate_requests_total",
    "Requests of boxes to enrol, and of agents to renew, by what became of them.",
    "kind",
    "fate",
)
CRL = metric(
    "crl_written_timestamp_seconds",
    "When the list of revoked certificates was last written for the broker.",
)
METADATA = metric(
    "trust_metadata_expiry_timestamp_seconds",
    "When signed metadata ends to be valid: agents take nothing new of it after that.",
    "role",
)

METRICS = (EXPIRY, DENIED, DENIED_COUNT, OWN, ENROLMENTS, REQUESTS, CRL, METADATA)


class _Signed(Struct):
    expires: str


class _Metadata(Struct):
    signed: _Signed


def read(known: Known) -> Iterator[Sample]:
    """Values of all metrics of security, as far as each part of it is in use.

    Raises:
        StoreError: the database cannot be read.
    """
    issued = known.store.certificates()
    yield from _agents(known, issued)
    for term in terms(known.config, issued):
        yield OWN, (term.whose,), term.end_ns / 1e9
    states = [standing(enrolment, known.now_ns).state for enrolment in known.store.enrolments()]
    for state in UNDER_WAY:
        yield ENROLMENTS, (state,), sum(each == state for each in states)
    if known.config.pki is not None:
        counted = dict(known.counts.of(COUNT))
        for labels in product((ENROLMENT, RENEWAL), FATES):
            yield REQUESTS, labels, counted.get(labels, 0)
        with suppress(OSError):
            yield CRL, (), Path(known.config.pki.crl).stat().st_mtime
    yield from _metadata(known)


def _agents(known: Known, issued: Sequence[CertificateRecord]) -> Iterator[Sample]:
    ends: dict[str, int] = {}
    for each in issued:
        if each.role == "agent" and not each.revoked_ns:
            ends[each.agent] = max(ends.get(each.agent, 0), each.not_after_ns)
    for agent, end in sorted(ends.items()):
        yield EXPIRY, (agent,), end / 1e9
    denied = known.store.denied()
    yield DENIED_COUNT, (), len(denied)
    for agent in denied:
        yield DENIED, (agent,), 1


def _metadata(known: Known) -> Iterator[Sample]:
    if known.config.trust is None:
        return
    folder = Path(known.config.trust.folder) / METADATA_FOLDER
    for role in ROLES:
        end = _expiry(folder, role)
        if end is not None:
            yield METADATA, (role,), end


def _expiry(folder: Path, role: str) -> float | None:
    """When the newest metadata of ``role`` ends to be valid, s since 1970; None if there is none.

    Of roles whose versions have files of their own (``2.snapshot.json``) the highest counts.
    """
    found = [path for path in folder.glob(f"*{role}.json") if _number(path, role) is not None]
    if not found:
        return None
    newest = max(found, key=lambda path: _number(path, role) or 0)
    try:
        with newest.open("rb") as file:
            told = json.decode(file.read(MOST_BYTES), type=_Metadata)
        return datetime.fromisoformat(told.signed.expires).timestamp()
    except (OSError, ValueError, *UNREADABLE):
        return None


def _number(path: Path, role: str) -> int | None:
    """The version that a file name tells, 0 where it tells none; None for another role's file."""
    before, found, _ = path.name.rpartition(f"{role}.json")
    number = before.removesuffix(".")
    if not found or (number and not number.isdecimal()):
        return None
    return int(number or 0)
