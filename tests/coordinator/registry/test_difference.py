# SPDX-License-Identifier: Apache-2.0
"""How two versions of two jobs differ: in their weights, and in what they are fed with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tests.coordinator.cli.conftest import NORMALISER, add_job

from fedmill_coordinator.registry.difference import compare
from fedmill_coordinator.registry.versions import Architecture
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import VersionRecord
from fedmill_shared.job import Job, Labels, Mlp, Signal, Window
from fedmill_shared.models.manifest import vector_bytes, version_of


class Shelf:
    """Jobs with a version each."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.blobs = Blobs(folder)

    def add(self, job: Job, value: float, normaliser: bytes | None = None) -> VersionRecord:
        """A job whose version has ``value`` everywhere."""
        made = Architecture.restore(job, NORMALISER, b"", b"")
        add_job(self.store, job)
        changes = {"normaliser": normaliser} if normaliser else {}
        self.store.update_job(job.name, updated_ns=1, manifest=made.manifest_blob, **changes)
        vector = np.full(made.manifest.size, value, np.float32)
        record = VersionRecord(
            job=job.name,
            number=0,
            version=version_of(vector),
            base=None,
            weights=self.blobs.put(vector_bytes(vector)),
            delta=None,
            canary_outputs=b"",
            round=None,
            created_ns=1,
        )
        self.store.add_version(record)
        return record


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Without a job."""
    return Shelf(tmp_path)


class TestOfTwoJobs:
    def test_each_field_that_feeds_them(self, shelf: Shelf, tiny_job: Callable[..., Job]) -> None:
        """By its dotted name with both values; what only rounds go by is not named."""
        one = tiny_job("one")
        other = structs.replace(
            tiny_job("other", rounds=9),
            signals=[Signal(name="force", unit="N"), one.signals[1]],
            window=Window(length=4, stride=2),
            labels=Labels(classes=["good", "burr", "dent"]),
        )
        found = compare(shelf.store, shelf.blobs, shelf.add(one, 1.0), shelf.add(other, 3.0))
        assert found.fields == {
            "signals.0.unit": ("kN", "N"),
            "window.stride": (one.window.stride, 2),
            "labels.classes": (["good", "burr", "crack"], ["good", "burr", "dent"]),
        }
        assert (found.unlike, found.standardisation) == ([], True)
        assert {(each.relative, each.largest) for each in found.tensors} == {(2.0, 2.0)}

    def test_a_signal_that_only_one_has(self, shelf: Shelf, tiny_job: Callable[..., Job]) -> None:
        """All that is said of it stands beside nothing."""
        one = tiny_job("one")
        more = [*one.signals, Signal(name="speed", unit="m/s")]
        other = structs.replace(tiny_job("other"), signals=more)
        found = compare(shelf.store, shelf.blobs, shelf.add(one, 1.0), shelf.add(other, 1.0))
        assert found.fields["signals.2.name"] == (None, "speed")
        assert {name.rpartition(".")[0] for name in found.fields} == {"signals.2"}

    def test_tensors_of_another_shape(self, shelf: Shelf, tiny_job: Callable[..., Job]) -> None:
        """They are named, and no norm is made of them; nor is one of another standardisation."""
        one = tiny_job("one")
        other = structs.replace(tiny_job("other"), model=Mlp(hidden=[4, 5]))
        told = [shelf.add(one, 1.0), shelf.add(other, 1.0, b"another")]
        found = compare(shelf.store, shelf.blobs, *told)
        assert found.unlike
        assert not {each.name for each in found.tensors} & set(found.unlike)
        assert {each.change for each in found.tensors} == {0.0}
        assert (found.fields, found.standardisation) == ({}, False)
