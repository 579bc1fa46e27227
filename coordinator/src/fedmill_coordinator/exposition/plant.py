# SPDX-License-Identifier: Apache-2.0
"""Metrics of the coordinator itself: its connection, its disk, and what it would not take."""

import os
from collections.abc import Iterator
from contextlib import suppress

from fedmill_coordinator.counts import AUDIT_LOST
from fedmill_coordinator.exposition.metric import Known, Sample, metric
from fedmill_shared import __version__

INFO = metric("coordinator_info", "1 for the version of the coordinator's software.", "software")
STARTED = metric("coordinator_start_timestamp_seconds", "When the coordinator was started.")
BROKER = metric("broker_connected", "Whether the coordinator is connected to the broker.")
REFUSED = metric(
    "messages_refused_total", "Messages that were none of ours, or about nothing here."
)
DENIED = metric("messages_denied_total", "Messages of agents that are denied, which were dropped.")
FAILED = metric("store_failures_total", "Messages that the disk failed to take in.")
LOST = metric(
    "audit_records_lost_total", "Records of the audit log that the disk failed to take in."
)
STORE = metric("store_bytes", "Size of the database, with its log.")
DISK = metric("disk_free_bytes", "What the disk of the coordinator's state folder may still take.")

METRICS = (INFO, STARTED, BROKER, REFUSED, DENIED, FAILED, LOST, STORE, DISK)
_COUNTED = {
    "messages_refused": REFUSED,
    "messages_denied": DENIED,
    "store_failures": FAILED,
    AUDIT_LOST: LOST,
}


def read(known: Known) -> Iterator[Sample]:
    """Values of all metrics of the coordinator; what only a daemon knows if there is one."""
    yield INFO, (__version__,), 1
    if known.live is not None:
        yield STARTED, (), known.live.started_ns / 1e9
        yield BROKER, (), known.live.connected
    for name, of in _COUNTED.items():
        yield of, (), sum(count for _, count in known.counts.of(name))
    yield STORE, (), _database_bytes(known)
    with suppress(OSError):
        disk = os.statvfs(known.config.database.parent)
        yield DISK, (), disk.f_bavail * disk.f_frsize


def _database_bytes(known: Known) -> int:
    """Of the file and its write-ahead log."""
    size, path = 0, known.config.database
    for each in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            size += each.stat().st_size
    return size
