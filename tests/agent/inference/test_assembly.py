# SPDX-License-Identifier: Apache-2.0
"""Versions put together from a shelf, without a wire."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import LENGTH, Versions, a_job

from fedmill_agent.inference.assembly import Assembly
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.errors import FrameError, ModelError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.messages import VersionNotice
from fedmill_shared.tensors import pack_tensor, unpack_tensor


class Bench:
    """Two versions, of which the first is on the shelf and the second all but its weights."""

    def __init__(self, folder: Path, *, job: Job | None = None) -> None:
        self.versions, self.shelf = Versions(), VersionShelf(folder)
        self.assembly = Assembly(self.shelf, job or self.versions.job)
        for blob in self.versions.blobs.values():
            self.shelf.put(blob)
        self.made = self.versions.advance(scale=1.0)
        self.notice: VersionNotice = self.versions.notice()

    def bring(self, digest: str) -> None:
        """One more blob."""
        self.shelf.put(self.versions.blobs[digest])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A fresh one."""
    return Bench(tmp_path)


class TestWeights:
    @pytest.mark.parametrize("way", ["version", "snapshot", "delta"])
    def test_are_the_same_bits_on_every_way(self, bench: Bench, way: str) -> None:
        """As they are on the shelf, from a snapshot, or as a delta on the version before."""
        notice: Any = bench.notice
        if way == "delta":
            bench.bring(notice.delta.sha256)
        else:
            bench.bring(notice.version)
            notice = structs.replace(notice, delta=None) if way == "snapshot" else notice
        assert bench.assembly.weights(notice).tobytes() == bench.made.vector.tobytes()

    def test_of_another_digest_are_refused(self, bench: Bench) -> None:
        """The snapshot is whole, and is not what was announced."""
        old = bench.versions.notice(0)
        wrong = structs.replace(bench.notice, delta=None, snapshot=old.snapshot)
        with pytest.raises(StoreError, match="do not have the announced SHA-256"):
            bench.assembly.weights(wrong)

    def test_that_are_not_there(self, bench: Bench) -> None:
        """Neither they nor a delta."""
        with pytest.raises(StoreError, match="cannot be read"):
            bench.assembly.weights(bench.notice)

    def test_of_a_delta_for_another_base(self, bench: Bench) -> None:
        """It says itself what it is made for."""
        bench.bring(bench.notice.version)
        bench.versions.advance(seed=1)
        later = bench.versions.notice()
        assert later.delta is not None
        bench.bring(later.delta.sha256)
        wrong = structs.replace(later, base=bench.versions.made[0].version)
        with pytest.raises(FrameError, match="not for the version"):
            bench.assembly.weights(wrong)


class TestChecked:
    def test_a_version_that_computes_what_it_should(self, bench: Bench) -> None:
        """With everything that its users need."""
        checked = bench.assembly.checked(bench.notice, bench.made.vector)
        assert (checked.version, checked.number) == (bench.made.version, 1)
        assert checked.manifest == bench.versions.architecture.manifest
        outputs = checked.session.run(checked.inputs)
        expected = unpack_tensor(bench.notice.canary_outputs)
        np.testing.assert_allclose(outputs, expected, atol=1e-4)

    def test_weights_of_another_version_do_not_pass(self, bench: Bench) -> None:
        """Same layout, other numbers: the canary tells."""
        with pytest.raises(ModelError, match="canary"):
            bench.assembly.checked(bench.notice, bench.versions.made[0].vector)

    def test_a_vector_that_does_not_fit(self, bench: Bench) -> None:
        """One weight is missing."""
        with pytest.raises(ModelError):
            bench.assembly.checked(bench.notice, bench.made.vector[:-1])

    def test_other_expectations_do_not_pass(self, bench: Bench) -> None:
        """As they would be if the graph were changed on its way."""
        outputs = pack_tensor(unpack_tensor(bench.notice.canary_outputs) + np.float32(1))
        wrong = structs.replace(bench.notice, canary_outputs=outputs)
        with pytest.raises(ModelError, match="canary"):
            bench.assembly.checked(wrong, bench.made.vector)

    def test_windows_of_another_job(self, tmp_path: Path) -> None:
        """It is named before anything is run."""
        bench = Bench(tmp_path, job=a_job(length=LENGTH + 1))
        with pytest.raises(ModelError, match=rf"the job has \(1, {LENGTH + 1}\)"):
            bench.assembly.checked(bench.notice, bench.made.vector)


class TestLayout:
    def test_a_manifest_that_makes_no_sense(self, bench: Bench) -> None:
        """Its digest is right: the coordinator's software is another one."""
        wrong = structs.replace(bench.notice, manifest=bench.versions.put(b"nonsense"))
        bench.shelf.put(b"nonsense")
        with pytest.raises(ModelError, match="cannot be decoded"):
            bench.assembly.layout(wrong)
