# SPDX-License-Identifier: Apache-2.0
"""Releases of somebody who only says so: none may keep those of the coordinator from serving."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from msgspec import structs
from onnx import TensorProto, helper
from tests.agent.inference.installing.rig import Rig, near
from tests.agent.kit import a_job

from fedmill_shared.job import Rollout
from fedmill_shared.messages import BlobName, ReleaseNotice, VersionNotice
from fedmill_shared.protocol import MOST_AHEAD
from fedmill_shared.tensors import pack_tensor, unpack_tensor

HIGHEST = 1 << 40


def huge(notice: VersionNotice) -> VersionNotice:
    """The same with a layout that fills no disk."""
    return structs.replace(notice, manifest=BlobName(sha256="0" * 64, size=HIGHEST))


def forged(rig: Rig, how: str) -> tuple[VersionNotice, dict[str, Any]]:
    """A release that nobody vouches for."""
    notice = rig.version(near(rig.versions.newest.vector, 7))
    return (notice, {"signature": b"mine"}) if how == "signature" else (huge(notice), {})


@pytest.mark.parametrize("how", ["signature", "sizes"])
class TestUnverified:
    def test_its_number_counts_for_nothing(self, tmp_path: Path, how: str) -> None:
        """The next release of the coordinator serves, also after a restart in between."""
        rig = Rig(tmp_path)
        rig.follow()
        notice, fields = forged(rig, how)
        rig.release(notice, HIGHEST, **fields)
        assert rig.told == ("rejected", "signature" if how == "signature" else "hash")
        assert rig.asked == []
        good = rig.version(near(rig.versions.newest.vector))
        rig.release(good, 1)
        assert rig.scores_with(good)
        assert rig.told == ("committed", "")
        rig.release(notice, HIGHEST, **fields)
        rig.start()
        assert rig.scores_with(good)
        assert rig.told == ("committed", "")
        rig.release(rig.versions.notice(0), 2)
        assert rig.scores_with(rig.versions.notice(0))

    def test_what_is_on_its_way_goes_on(self, tmp_path: Path, how: str) -> None:
        """It is neither given up for it, nor are its blobs."""
        rig = Rig(tmp_path)
        rig.follow()
        good = rig.version(near(rig.versions.newest.vector))
        rig.deployment.release(ReleaseNotice(job="press", release=1, notice=good), retained=True)
        assert rig.told == ("offered", "")
        notice, fields = forged(rig, how)
        rig.deployment.release(
            ReleaseNotice(job="press", release=2, notice=notice, **fields), retained=True
        )
        assert rig.told == ("offered", "")
        assert [each["release"] for each in rig.journal.of("release.ignored")] == [2]
        rig.answer()
        assert rig.scores_with(good)

    def test_thousands_wear_out_no_flash(self, tmp_path: Path, how: str) -> None:
        """Nothing is written for any of them behind the first."""
        rig = Rig(tmp_path)
        first = rig.follow()
        notice, fields = forged(rig, how)
        rig.release(notice, 1, **fields)
        before = {path: path.stat().st_mtime_ns for path in rig.shelf.folder.iterdir()}
        for number in range(2, 200):
            rig.release(notice, number, **fields)
        after = {path: path.stat().st_mtime_ns for path in rig.shelf.folder.iterdir()}
        assert before == after
        assert len(rig.installer._ledger.slots.broken) == 0
        assert rig.scores_with(first)


class TestVersions:
    def test_no_version_serves_past_the_releases(self, tmp_path: Path) -> None:
        """Where a job releases its versions, one that says to serve as it comes is trained from."""
        job = structs.replace(a_job(), rollout=Rollout(release="manual"))
        rig = Rig(tmp_path, job=job)
        first = rig.follow()
        assert first.serve
        assert rig.deployment.followed is not None
        assert rig.deployment.served is None
        rig.start()
        assert rig.deployment.served is None
        rig.release(first)
        assert rig.scores_with(first)
        rig.versions.advance()
        second = rig.follow()
        assert rig.deployment.followed.version == second.version
        assert rig.scores_with(first)


class TestNumbers:
    def test_one_far_beyond_all_others_is_passed_over(self, tmp_path: Path) -> None:
        """Else no later one would ever serve here; the coordinator can go beyond all that do."""
        rig = Rig(tmp_path)
        rig.follow()
        rig.release(rig.version(near(rig.versions.newest.vector, 1)), 1)
        forged = rig.version(near(rig.versions.newest.vector, 2))
        rig.release(forged, HIGHEST)
        rig.release(forged, 2 + MOST_AHEAD)
        assert not rig.scores_with(forged)
        assert len(rig.journal.of("release.ignored")) == 2
        rig.release(forged, 1 + MOST_AHEAD)
        assert rig.scores_with(forged)

    def test_whoever_comes_late_takes_any(self, tmp_path: Path) -> None:
        """An agent that is new does not know how many there were."""
        rig = Rig(tmp_path)
        rig.follow()
        notice = rig.version(near(rig.versions.newest.vector))
        rig.release(notice, 5 * MOST_AHEAD)
        assert rig.scores_with(notice)


class TestWidth:
    def test_a_graph_that_lies_about_its_outputs(self, tmp_path: Path) -> None:
        """Its metadata names two classes and it gives six: the sixth would be no class at all."""
        rig = Rig(tmp_path)
        first = rig.follow()
        notice = rig.version(near(rig.versions.newest.vector))
        graph = onnx.load_from_string(rig.versions.blobs[notice.template.sha256])
        outputs = graph.graph.output.pop(0).name
        graph.graph.node.append(helper.make_node("Concat", [outputs] * 3, ["wide"], axis=1))
        wide = helper.make_tensor_value_info("wide", TensorProto.FLOAT, ["batch", 6])
        graph.graph.output.insert(0, wide)
        said = np.tile(unpack_tensor(notice.canary_outputs), (1, 3))
        rig.release(
            structs.replace(
                notice,
                template=rig.versions.put(graph.SerializeToString()),
                canary_outputs=pack_tensor(said),
            )
        )
        assert rig.told == ("rejected", "schema")
        assert "6 outputs for a window, the job wants 2" in rig.report.reason
        assert rig.scores_with(first)

    def test_features_that_fill_the_memory(self, tmp_path: Path) -> None:
        """Room for them would be made with the first window, and not with the canary."""
        rig = Rig(tmp_path)
        first = rig.follow()
        notice = rig.version(near(rig.versions.newest.vector))
        graph = onnx.load_from_string(rig.versions.blobs[notice.template.sha256])
        features = graph.graph.output.pop(1).name
        for node in graph.graph.node:
            node.input[:] = ["narrow" if each == features else each for each in node.input]
            node.output[:] = ["narrow" if each == features else each for each in node.output]
        times = helper.make_tensor("times", TensorProto.INT64, [2], [1, 1 << 30])
        graph.graph.initializer.append(times)
        graph.graph.node.append(helper.make_node("Tile", ["narrow", "times"], [features]))
        wide = helper.make_tensor_value_info(features, TensorProto.FLOAT, ["batch", 3 << 30])
        graph.graph.output.append(wide)
        template = rig.versions.put(graph.SerializeToString())
        rig.release(structs.replace(notice, template=template))
        assert rig.told == ("rejected", "schema")
        assert "features of a window" in rig.report.reason
        assert rig.scores_with(first)
