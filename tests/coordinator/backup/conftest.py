# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from tests.coordinator.backup.kit import CONFIG, KEY, a_job, written

from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.sql import SqlStore


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A coordinator with a row, two blobs, keys, metadata, and files that pass."""
    folder = tmp_path / "plant"
    state = folder / "state"
    files = {
        "coordinator.toml": CONFIG,
        "jobs/press.toml": "[job]",
        "trust/root.json": "{}",
        "online/timestamp.pem": KEY,
        "state/pki/ca.key": KEY,
        "state/pki/ca.pem": "certificate",
        "state/audit.jsonl": "record\n",
        "state/audit-heads/gw1": "1:abc",
        "state/lock": "",
        "state/spool/part": "half an update",
        "state/.status.tmp": "half",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    blobs = Blobs(state / "blobs")
    names = [blobs.put(data) for data in (b"weights" * 1000, b"template")]
    with SqlStore.in_file(state / "fedmill.sqlite") as store:
        store.add_job(a_job("press", names[1]))
    return folder / "coordinator.toml"


@pytest.fixture
def backup(config: Path, tmp_path: Path) -> Path:
    """A backup of it, with keys."""
    out = tmp_path / "backup.tar.gz"
    written(config, out, keys=True)
    return out
