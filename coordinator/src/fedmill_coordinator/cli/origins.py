# SPDX-License-Identifier: Apache-2.0
"""Labels of origin of the updates that versions were made of, verified once more."""

from collections.abc import Sequence

from fedmill_coordinator.cli.listing import when
from fedmill_coordinator.cli.table import Column, Row, digest, value
from fedmill_coordinator.rounds.provenance import certificate_of, verify_record
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records import UpdateRecord
from fedmill_coordinator.store.records_pki import CertificateRecord
from fedmill_shared.errors import TrustError, UsageError

GENUINE = "genuine"
LABELS = [
    Column("round", value("round"), right=True),
    Column("agent", value("agent")),
    Column("update", value("sha256", digest), spare=2),
    Column("key", value("key")),
    Column("certificate", value("certificate"), spare=3),
    Column("made (UTC)", value("made"), spare=4),
    Column("software", value("software"), spare=5),
    Column("label", value("label"), wraps=True),
]


def labels_of_origin(
    store: Store, job: str, *, version: str | None = None, number: int | None = None
) -> list[Row]:
    """What is known of who made each update that went into versions of ``job``.

    Args:
        store: where they are kept.
        job: name of the job.
        version: SHA-256 of the version that is meant, or how it begins; None for all.
        number: the round whose close is meant; None for all.

    Raises:
        UsageError: there is no such version, or several.
    """
    wanted = number if version is None else _round_of(store, job, version)
    used = [
        update
        for each in store.rounds(job)
        for update in store.updates(job, each.round)
        if update.included_in is not None and wanted in (None, update.included_in)
    ]
    certificates = {agent: store.certificates(agent) for agent in {each.agent for each in used}}
    used.sort(key=lambda update: (update.included_in, update.agent, update.round))
    return [_row(update, certificates[update.agent]) for update in used]


def complain(rows: Sequence[Row]) -> None:
    """Return if all of ``rows`` are genuine.

    Raises:
        TrustError: one is not.
    """
    doubtful = [row for row in rows if row["label"] != GENUINE]
    if doubtful:
        first = doubtful[0]
        raise TrustError(
            f"{len(doubtful)} of {len(rows)} updates are not their agents' own for all that can be "
            f"verified, the first of {first['agent']} in round {first['round']}",
            remedy="look at who had the key; `fedmill models` goes back to a version before it",
        )


def _round_of(store: Store, job: str, version: str) -> int:
    found = [each for each in store.versions(job) if each.version.startswith(version)]
    if len(found) != 1 or found[0].round is None:
        told = "no version" if not found else "more than one" if len(found) > 1 else "version 0"
        raise UsageError(f"--version is {version!r}", remedy=f"{told} begins like this")
    return found[0].round


def _row(update: UpdateRecord, certificates: Sequence[CertificateRecord]) -> Row:
    found = certificate_of(update.key, certificates) if update.key else None
    row: dict[str, object] = {
        "round": update.included_in,
        "made_for": update.round,
        "agent": update.agent,
        "sha256": update.sha256,
        "key": update.key,
        "certificate": found.serial if found is not None else "",
        "revoked": when(found.revoked_ns) if found is not None and found.revoked_ns else "",
        "made": "",
        "software": "",
    }
    try:
        origin = verify_record(update, certificates)
    except TrustError as error:
        return {**row, "label": error.message}
    made, software = when(origin.made_ns), origin.software
    return {**row, "made": made, "software": software, "label": GENUINE}
