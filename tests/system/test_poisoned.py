# SPDX-License-Identifier: Apache-2.0
"""Releases that a broken or captured coordinator might send: the fleet keeps its model.

Each is caught at its gate by one agent, the canary; the operator sees which, where and why.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from msgspec import json, structs
from tests.system.fleet import Fleet, federation
from tests.system.test_rollout import ended, newest, plants, rolling

from fedmill_coordinator.store.records import VersionRecord
from fedmill_shared.link.blocks import BLOB_LIMIT
from fedmill_shared.models.manifest import vector_bytes, version_of
from fedmill_shared.tensors import pack_tensor, unpack_tensor

pytestmark = pytest.mark.system
Poison = Callable[[Fleet], VersionRecord]


def last(fleet: Fleet) -> VersionRecord:
    """The version that the job ended with."""
    return next(
        each for each in fleet.store.versions(fleet.job.name) if each.version == fleet.stable()
    )


def weights(fleet: Fleet) -> np.ndarray[Any, Any]:
    """Its weights."""
    return np.frombuffer(fleet.blobs.get(last(fleet).weights or "", BLOB_LIMIT), "<f4").copy()


def made(fleet: Fleet, vector: np.ndarray[Any, Any], **fields: Any) -> VersionRecord:
    """Another version, with these weights and the canary of the last one unless told otherwise."""
    record = structs.replace(
        last(fleet),
        number=len(fleet.store.versions(fleet.job.name)),
        version=version_of(vector),
        weights=fleet.blobs.put(vector_bytes(vector)),
        base=None,
        delta=None,
        round=None,
    )
    return structs.replace(record, **fields)


def near(fleet: Fleet, nudge: float) -> np.ndarray[Any, Any]:
    """Weights that compute all but the same; ``nudge`` tells them from others."""
    vector = weights(fleet)
    vector[0] += np.float32(nudge)
    return vector


def not_a_number(fleet: Fleet) -> VersionRecord:
    """Training has diverged, and nobody looked."""
    vector = weights(fleet)
    vector[:] = np.nan
    return made(fleet, vector)


def of_another_canary(fleet: Fleet) -> VersionRecord:
    """It computed something else where it was made."""
    outputs = unpack_tensor(last(fleet).canary_outputs)[:, ::-1].copy()
    return made(fleet, near(fleet, 1e-6), canary_outputs=pack_tensor(outputs))


def of_other_weights(fleet: Fleet) -> VersionRecord:
    """What is sent is not what was named."""
    blob = fleet.blobs.put(vector_bytes(near(fleet, 2e-6)))
    return made(fleet, near(fleet, 3e-6), weights=blob)


def of_other_units(fleet: Fleet) -> VersionRecord:
    """The graph is for windows in another unit."""
    job = fleet.store.job(fleet.job.name)
    assert job is not None
    assert job.template is not None
    graph = onnx.load_from_string(fleet.blobs.get(job.template, BLOB_LIMIT))
    for entry in graph.metadata_props:
        entry.value = entry.value.replace('"unit":"g"', '"unit":"m/s2"')
    template = fleet.blobs.put(graph.SerializeToString())
    assert template != job.template
    fleet.store.update_job(job.name, updated_ns=job.updated_ns, template=template)
    return made(fleet, near(fleet, 4e-6))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A federation whose last version is on all agents."""
    with federation(tmp_path_factory.mktemp("poison") / "fleet", rolling(), plants()) as fleet:
        fleet.finish()
        fleet.wait("release", lambda: ended(fleet, 1))
        yield fleet


@pytest.mark.parametrize(
    ("poison", "gate", "words"),
    [
        (not_a_number, "numbers", "finite"),
        (of_another_canary, "canary", "canary"),
        (of_other_weights, "hash", "SHA-256"),
        (of_other_units, "schema", "unit"),
    ],
)
def test_is_caught_at_its_gate(released: Fleet, poison: Poison, gate: str, words: str) -> None:
    """The canary refuses it, the release ends there, and every agent serves what it served."""
    serves = released.stable()
    job = released.store.job(released.job.name)
    assert job is not None
    record = poison(released)
    released.store.add_version(record)
    number = newest(released).release + 1
    config = released.layout.coordinator
    told = released.run(
        "fedmill_coordinator", "models", "promote", config, "--version", str(record.number)
    )
    assert told.returncode == 0, told.stderr
    released.wait("release", lambda: ended(released, number))
    released.store.update_job(job.name, updated_ns=job.updated_ns, template=job.template)

    shown = released.run(
        "fedmill_coordinator", "models", "show", config, "--release", str(number), "--json"
    )
    rows = json.decode(shown.stdout)
    [refused] = [row for row in rows if row["state"] == "rejected"]
    assert refused["gate"] == gate
    assert words in refused["reason"]
    assert {row["serving"] for row in rows} == {serves}
    release = released.store.release(released.job.name, number)
    assert release is not None
    assert release.state == "aborted"
    assert refused["agent"] in release.reason
    table = released.run("fedmill_coordinator", "models", "show", config, "--release", str(number))
    assert refused["agent"] in table.stdout
    assert gate in table.stdout
