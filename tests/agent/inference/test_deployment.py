# SPDX-License-Identifier: Apache-2.0
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import LENGTH, Journal, Versions, a_job

from fedmill_agent.inference.deployment import RETRY_SECONDS, Deployment
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.parts import (
    CANARY_LIMIT,
    MANIFEST_LIMIT,
    TEMPLATE_LIMIT,
    apply_delta,
    check_sizes,
)
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_shared.clock import ManualClock
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.frame import FrameHeader, encode_frame, prefix
from fedmill_shared.errors import FrameError, ModelError, StoreError
from fedmill_shared.files import sha256
from fedmill_shared.link.blocks import (
    BLOB_LIMIT,
    BLOCK_SIZE,
    TRANSFER_WINDOW,
    Block,
    blocks_of,
    parse_block,
)
from fedmill_shared.messages import BlobName, BlobRequest, VersionNotice
from fedmill_shared.models.manifest import LEARNED
from fedmill_shared.signals.windows import Window
from fedmill_shared.tensors import pack_tensor, unpack_tensor


class Gateway:
    """A deployment on a folder, and the questions it asks."""

    def __init__(self, folder: Path, versions: Versions, clock: ManualClock | None = None) -> None:
        self.versions = versions
        self.clock = clock or ManualClock()
        self.journal = Journal()
        self.asked: list[BlobRequest] = []
        self.arrived: list[int] = []
        self.shelf = VersionShelf(folder)
        self.scorer = Scorer(self.clock)
        self.deployment = Deployment(
            self.shelf,
            self.scorer,
            Serving(folder, versions.job, self.journal),
            Around(versions.job, self.clock, self.journal),
            request=self.asked.append,
            arrived=lambda: self.arrived.append(self.deployment.followed.number),
        )

    @property
    def active(self) -> int | None:
        """Number of the active version, which is the one that scores."""
        notice = self.deployment.followed
        assert self.deployment.served == notice or notice is None
        assert self.scorer.version == (notice.version if notice else "")
        return notice.number if notice else None

    def questions(self) -> list[str]:
        """Names of the blobs asked for since the last call."""
        asked, self.asked[:] = [request.blob for request in self.asked], []
        return asked

    def serve(self, spoil: Callable[[Block], Block] = lambda block: block) -> None:
        """Answer every question, and those that follow."""
        while self.asked:
            for block in self.versions.blocks(self.asked.pop(0)):
                self.deployment.receive(spoil(parse_block(block)))

    def broadcast(self, *blobs: bytes) -> None:
        """The coordinator sends the newest delta, or other blobs, to all."""
        for blob in blobs or (self.versions.newest.frame,):
            for block in blocks_of(blob):
                self.deployment.receive(parse_block(block))

    def large(self, blob: bytes) -> VersionNotice:
        """A notice of a version with ``blob`` as its snapshot; it cannot be installed."""
        return structs.replace(
            self.versions.notice(),
            version=sha256(b"?"),
            snapshot=self.versions.put(blob),
            delta=None,
        )

    def install(self, number: int = -1) -> None:
        """Bring a version as a snapshot."""
        self.deployment.announce(self.versions.notice(number), retained=True)
        self.serve()

    def score(self) -> np.ndarray:
        """Outputs of the active version for a fixed window."""
        values = np.linspace(-1, 1, LENGTH, dtype=np.float32)[None]
        [prediction] = self.scorer.score([Window("r", "u", 0, 7, values, 1.0, 0)])
        return prediction.outputs


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """A fresh gateway, and version 0 at the coordinator."""
    return Gateway(tmp_path / "versions", Versions())


@pytest.fixture
def running(gateway: Gateway) -> Gateway:
    """A gateway with version 0 active, and version 1 at the coordinator."""
    gateway.install()
    gateway.versions.advance()
    return gateway


def parts_of(notice: VersionNotice) -> set[str]:
    """What every version needs beside its weights."""
    return {blob.sha256 for blob in (notice.manifest, notice.template, notice.canary_inputs)}


class TestFirstVersion:
    def test_is_pulled_as_a_snapshot(self, gateway: Gateway) -> None:
        """Everything is asked for at once; with the last block the version scores."""
        notice = gateway.versions.notice()
        gateway.deployment.announce(notice, retained=True)
        assert {r.blob for r in gateway.asked} == parts_of(notice) | {notice.snapshot.sha256}
        assert {r.job for r in gateway.asked} == {"press"}
        gateway.serve()
        assert gateway.active == 0
        model = gateway.versions.architecture.model
        model.load(gateway.versions.newest.vector)
        values = np.linspace(-1, 1, LENGTH, dtype=np.float32)[None, None]
        np.testing.assert_allclose(gateway.score(), model.predict(values)[0], atol=1e-5)
        [told] = gateway.journal.of("version.installed")
        assert told["number"] == 0

    def test_comes_unasked_behind_a_fresh_notice(self, gateway: Gateway) -> None:
        """Everybody lacks all of it, so it is broadcast once; nobody asks."""
        gateway.deployment.announce(gateway.versions.notice(), retained=False)
        gateway.broadcast(*gateway.versions.blobs.values())
        assert gateway.active == 0
        assert gateway.questions() == []

    def test_is_pulled_where_the_broadcast_does_not_come(self, gateway: Gateway) -> None:
        """After a second: a coordinator that was restarted does not send it again."""
        notice = gateway.versions.notice()
        gateway.deployment.announce(notice, retained=False)
        gateway.clock.advance(0.9)
        gateway.deployment.tick()
        assert gateway.asked == []
        gateway.clock.advance(0.1)
        gateway.deployment.tick()
        assert {r.blob for r in gateway.asked} == parts_of(notice) | {notice.snapshot.sha256}
        gateway.serve()
        assert gateway.active == 0
        assert gateway.arrived == [0]

    def test_manifest_and_weights_for_the_trainer(self, gateway: Gateway) -> None:
        """Nothing before there is a version; then its layout, file and conditions."""
        assert gateway.deployment.weights_path() == ""
        with pytest.raises(ModelError, match="no model version"):
            gateway.deployment.manifest()
        gateway.install()
        assert gateway.deployment.manifest() == gateway.versions.architecture.manifest
        assert gateway.deployment.regimes() == 1
        weights = np.fromfile(gateway.deployment.weights_path(), "<f4")
        assert weights.tobytes() == gateway.versions.newest.vector.tobytes()

    def test_the_same_again_asks_for_nothing(self, gateway: Gateway) -> None:
        """It is installed already; whether to evaluate it may have changed."""
        gateway.install()
        notice = gateway.versions.notice(evaluate=True)
        gateway.deployment.announce(notice, retained=True)
        assert gateway.questions() == []
        assert gateway.deployment.followed == notice
        assert gateway.arrived == [0, 0]


class TestDelta:
    @pytest.mark.parametrize("codec", ["int8", "fp32"])
    def test_broadcast_gives_the_coordinators_bits(self, tmp_path: Path, codec: str) -> None:
        """Ten deltas in a row, nothing pulled, and never a bit of difference."""
        gateway = Gateway(tmp_path, Versions(a_job(codec=codec)))
        gateway.install()
        for seed in range(10):
            made = gateway.versions.advance(seed=seed)
            gateway.deployment.announce(gateway.versions.notice(), retained=False)
            gateway.broadcast()
            assert gateway.shelf.vector(made.version).tobytes() == made.vector.tobytes()
            assert gateway.active == seed + 1
        assert gateway.questions() == []

    def test_may_come_before_its_notice(self, running: Gateway) -> None:
        """Blocks nobody waits for are dropped, and pulled once the patience is over."""
        running.broadcast()
        running.deployment.announce(running.versions.notice(), retained=False)
        assert running.active == 0
        running.deployment.tick()
        assert running.questions() == []
        running.clock.advance(1.0)
        running.deployment.tick()
        running.serve()
        assert running.active == 1

    def test_retained_notice_pulls_at_once(self, running: Gateway) -> None:
        """Who was away has missed the broadcast."""
        notice = running.versions.notice()
        running.deployment.announce(notice, retained=True)
        assert running.questions() == [notice.delta.sha256]

    def test_without_its_base_the_snapshot_is_pulled(self, running: Gateway) -> None:
        """An agent that missed a version takes the newest one whole."""
        running.versions.advance(seed=1)
        notice = running.versions.notice()
        running.deployment.announce(notice, retained=False)
        assert [r.blob for r in running.asked] == [notice.snapshot.sha256]
        running.serve()
        assert running.active == 2

    def test_a_newer_version_replaces_the_one_on_its_way(self, running: Gateway) -> None:
        """Blocks of the old one are not waited for any more."""
        running.deployment.announce(running.versions.notice(), retained=True)
        old = running.asked.pop()
        running.versions.advance(seed=1)
        running.deployment.announce(running.versions.notice(), retained=True)
        for block in running.versions.blocks(old):
            running.deployment.receive(parse_block(block))
        assert running.active == 0
        running.serve()
        assert running.active == 2

    def test_going_back_to_the_active_version_ends_the_download(self, running: Gateway) -> None:
        """Blocks that still arrive do not install the version that was withdrawn."""
        running.deployment.announce(running.versions.notice(1), retained=True)
        running.deployment.announce(running.versions.notice(0), retained=False)
        assert running.arrived == [0, 0]
        running.serve()
        assert running.active == 0


class TestLosses:
    def test_lost_blocks_are_asked_for_after_the_patience(self, running: Gateway) -> None:
        """One second after a notice, then after every two seconds of silence."""
        delta = running.versions.newest.frame
        running.deployment.announce(running.versions.notice(), retained=False)
        for waited, asked in [(0.9, False), (0.2, True), (1.9, False), (0.2, True), (1.0, False)]:
            running.clock.advance(waited)
            running.deployment.tick()
            assert running.questions() == [sha256(delta)] * asked

    def test_a_large_blob_comes_in_windows_of_eight(self, running: Gateway) -> None:
        """The next eight blocks are asked for when eight have come."""
        blob = np.random.default_rng(0).bytes(20 * BLOCK_SIZE - 5)
        running.deployment.announce(running.large(blob), retained=True)
        asked = []
        while running.asked:
            [request] = running.asked
            running.asked.clear()
            asked.append(request.missing)
            for block in running.versions.blocks(request):
                assert running.asked == []
                running.deployment.receive(parse_block(block))
        assert asked == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
        assert TRANSFER_WINDOW == 8

    def test_a_hole_is_asked_for_with_the_next_window(self, running: Gateway) -> None:
        """Blocks come in order: the last one of a window tells which of it are lost."""
        blob = np.random.default_rng(0).bytes(12 * BLOCK_SIZE)
        notice = running.large(blob)
        running.deployment.announce(notice, retained=True)
        running.asked.clear()
        for index in (0, 1, 3, 4, 6, 7):
            assert running.asked == []
            running.deployment.receive(parse_block(next(blocks_of(blob, [index]))))
        [request] = running.asked
        assert request.missing == [2, 5, 8, 9, 10, 11]

    def test_a_hole_in_a_broadcast(self, running: Gateway) -> None:
        """Behind its last block nothing more comes: what is lost is asked for at once."""
        frame = np.random.default_rng(0).bytes(3 * BLOCK_SIZE)
        notice = structs.replace(running.versions.notice(), delta=running.versions.put(frame))
        running.deployment.announce(notice, retained=False)
        for index in (0, 2):
            assert running.asked == []
            running.deployment.receive(parse_block(next(blocks_of(frame, [index]))))
        [request] = running.asked
        assert (request.blob, request.missing) == (sha256(frame), [1])

    def test_only_what_is_missing_is_asked_for_again(self, running: Gateway) -> None:
        """Blocks that came stay; each one that comes is a reason to go on waiting."""
        blob = np.random.default_rng(0).bytes(4 * BLOCK_SIZE)
        notice = running.large(blob)
        running.deployment.announce(notice, retained=True)
        running.asked.clear()
        for index in (0, 2):
            running.clock.advance(1.5)
            running.deployment.receive(parse_block(next(blocks_of(blob, [index]))))
            running.deployment.tick()
        assert running.asked == []
        running.deployment.announce(notice, retained=True)  # the coordinator was restarted
        running.clock.advance(2.0)
        running.deployment.tick()
        [request] = running.asked
        assert request.missing == [1, 3]

    def test_an_impossible_size_is_refused(self, running: Gateway) -> None:
        """Before a byte is fetched; what runs goes on."""
        notice = running.versions.notice()
        huge = structs.replace(
            notice, base="", snapshot=structs.replace(notice.snapshot, size=1 << 40)
        )
        with pytest.raises(FrameError, match="exceeds"):
            running.deployment.announce(huge, retained=True)
        running.clock.advance(9.0)
        running.deployment.tick()
        assert running.questions() == []
        assert running.active == 0

    @pytest.mark.parametrize(
        ("part", "limit"),
        [
            ("manifest", MANIFEST_LIMIT),
            ("template", TEMPLATE_LIMIT),
            ("canary_inputs", CANARY_LIMIT),
            ("snapshot", BLOB_LIMIT),
            ("delta", BLOB_LIMIT),
        ],
    )
    def test_each_part_has_a_limit(self, running: Gateway, part: str, limit: int) -> None:
        """The download that is on its way goes on beside one that is refused."""
        notice = running.versions.notice()
        running.deployment.announce(notice, retained=True)
        name = BlobName(sha256=sha256(b"large"), size=limit)
        check_sizes(structs.replace(notice, **{part: name}))
        larger = structs.replace(name, size=limit + 1)
        other = structs.replace(notice, version=sha256(b"?"), **{part: larger})
        with pytest.raises(FrameError, match=f"{limit + 1} bytes exceeds {limit}"):
            running.deployment.announce(other, retained=True)
        running.serve()
        assert running.active == 1


def spoilt(block: Block) -> Block:
    """A block whose checksum is right and whose content is not."""
    payload = bytes([block.payload[0] ^ 1]) + block.payload[1:]
    return replace(block, payload=payload)


class TestDamage:
    def test_a_damaged_blob_is_fetched_again(self, running: Gateway) -> None:
        """The blob's own digest finds what no checksum of a block did."""
        running.deployment.announce(running.versions.notice(), retained=True)
        running.serve(spoilt)
        [told] = running.journal.of("block.refused")
        assert "arrived damaged" in told["error"]
        assert running.active == 0
        running.clock.advance(2.0)
        running.deployment.tick()
        running.serve()
        assert running.active == 1

    def test_a_block_of_another_size_does_not_count(self, running: Gateway) -> None:
        """It claims the blob's name; the real block still completes it."""
        running.deployment.announce(running.versions.notice(), retained=True)
        delta = sha256(running.versions.newest.frame)
        running.deployment.receive(Block(delta, 0, 1, 4, b"fake"))
        assert running.active == 0
        running.serve()
        assert running.active == 1

    @pytest.mark.parametrize(
        "kind", ["foreign", "truncated", "other base", "other layout", "other sum"]
    )
    def test_a_useless_delta_leads_to_the_snapshot(self, running: Gateway, kind: str) -> None:
        """Whatever is wrong with it, the version still arrives, whole."""
        frame = useless_delta(running.versions, kind)
        notice = structs.replace(running.versions.notice(), delta=running.versions.put(frame))
        running.deployment.announce(notice, retained=True)
        running.serve()
        assert running.active == 1
        assert running.deployment.followed.delta is None
        [told] = running.journal.of("version.damaged")
        assert told["version"] == notice.version[:12]

    def test_a_damaged_base_leads_to_the_snapshot(self, running: Gateway) -> None:
        """It is found when the delta is applied."""
        path = running.shelf.path(running.versions.made[0].version)
        path.write_bytes(path.read_bytes()[:-4] + b"oops")
        running.deployment.announce(running.versions.notice(), retained=True)
        running.serve()
        assert running.active == 1

    @pytest.mark.parametrize("part", ["manifest", "template", "canary_inputs"])
    def test_a_damaged_part_is_fetched_again(self, running: Gateway, part: str) -> None:
        """Everything on disk is checked when it is read."""
        notice = running.versions.notice()
        running.shelf.path(getattr(notice, part).sha256).write_bytes(b"rust")
        running.deployment.announce(notice, retained=True)
        running.serve()
        assert running.active == 1

    @pytest.mark.parametrize("part", ["manifest", "canary_inputs", "template", "canary_outputs"])
    def test_a_part_that_makes_no_sense_is_refused(self, running: Gateway, part: str) -> None:
        """The coordinator's mistake: the digest is right. Told once, and nothing is asked again."""
        nonsense = b"nonsense" if part == "canary_outputs" else running.versions.put(b"nonsense")
        notice = structs.replace(running.versions.notice(), **{part: nonsense})
        running.deployment.announce(notice, retained=True)
        running.serve()
        assert running.active == 0
        assert len(running.journal.of("version.refused")) == 1

    def test_a_snapshot_that_is_no_vector_is_refused(self, running: Gateway) -> None:
        """Neither its length nor its digest is that of the version."""
        for blob in (b"12345", b"1234"):
            notice = structs.replace(
                running.versions.notice(), snapshot=running.versions.put(blob), delta=None
            )
            running.deployment.announce(notice, retained=True)
            running.serve()
        assert running.active == 0
        assert len(running.journal.of("version.refused")) == 2


def useless_delta(versions: Versions, kind: str) -> bytes:
    """A frame that does not make the newest version of the one before it."""
    if kind == "foreign":
        return b"GIF89a"
    if kind == "truncated":
        return versions.newest.frame[:-9]
    manifest, base = versions.architecture.manifest, versions.made[-2].version
    header = FrameHeader(
        content="delta",
        round=1,
        base=prefix(sha256(b"?") if kind == "other base" else base),
        schema=prefix(sha256(b"?") if kind == "other layout" else manifest.digest),
    )
    delta = np.ones(versions.architecture.learned, np.float32)
    return encode_frame(CODECS["fp32"], delta, header, np.random.default_rng(0))


class TestDisk:
    """Downloads are on disk, not in memory."""

    BLOB = np.random.default_rng(0).bytes(40 * BLOCK_SIZE)

    def test_memory_does_not_grow_with_the_blob(self, running: Gateway) -> None:
        """Forty blocks come in the memory of a few."""
        notice = running.large(self.BLOB)
        manifest = running.versions.put(b"this one does not come")
        running.deployment.announce(structs.replace(notice, manifest=manifest), retained=True)
        wires = [bytes(wire) for wire in blocks_of(self.BLOB)]
        tracemalloc.start()
        try:
            for wire in wires:
                running.deployment.receive(parse_block(wire))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 5 * BLOCK_SIZE
        assert running.shelf.path(sha256(self.BLOB)).stat().st_size == len(self.BLOB)

    def test_large_ones_are_told(self, running: Gateway) -> None:
        """With their size and time; small ones only to those who look closely."""
        running.journal.entries.clear()
        running.journal.debug = lambda event, **fields: None
        running.deployment.announce(running.large(self.BLOB), retained=True)
        running.clock.advance(0.5)
        running.serve()
        running.deployment.announce(running.versions.notice(), retained=True)
        running.serve()
        [told] = running.journal.of("blob.received")
        assert told == {
            "blob": sha256(self.BLOB)[:12],
            "bytes": len(self.BLOB),
            "seconds": 0.5,
            "resumed_bytes": 0,
        }

    def test_a_restart_goes_on(self, running: Gateway) -> None:
        """Only what had not come is asked for, and it is told what was saved."""
        notice = running.large(self.BLOB)
        running.deployment.announce(notice, retained=True)
        for wire in blocks_of(self.BLOB, range(3, 39)):
            running.deployment.receive(parse_block(wire))
        again = Gateway(running.shelf.path("x").parent, running.versions)
        again.deployment.resume()
        again.deployment.announce(notice, retained=True)
        assert [request.missing for request in again.asked] == [[0, 1, 2, 39]]
        again.serve()
        [told] = again.journal.of("blob.received")
        assert told["resumed_bytes"] == 36 * BLOCK_SIZE

    @pytest.mark.parametrize("number", [0, 1])
    def test_what_is_not_wanted_any_more_is_removed(self, running: Gateway, number: int) -> None:
        """Halves of a version that was withdrawn, for the active one or another."""
        running.deployment.announce(running.large(self.BLOB), retained=True)
        running.deployment.receive(parse_block(next(blocks_of(self.BLOB, [1]))))
        spool = running.shelf.path("x").parent / "spool"
        assert len(list(spool.iterdir())) == 2
        running.deployment.announce(running.versions.notice(number), retained=True)
        assert list(spool.iterdir()) == []

    def test_a_shelf_that_cannot_be_written(
        self, running: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The blob stays in the spool, and is moved with the next block that comes."""

        def fail(*_: object) -> None:
            raise StoreError("the disk is full")

        running.deployment.announce(running.versions.notice(), retained=True)
        with monkeypatch.context() as full:
            full.setattr(running.shelf.spool, "settle", fail)
            running.serve()
        [told] = running.journal.of("blob.delayed")
        assert "the disk is full" in told["error"]
        running.clock.advance(2.0)
        running.deployment.tick()
        [request] = running.asked
        assert request.missing == [0]
        running.serve()
        assert running.active == 1

    @pytest.mark.parametrize("what", ["keep", "expect"])
    def test_a_version_that_cannot_be_begun_is_tried_again(
        self, running: Gateway, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        """The disk fails as it is announced: it is told, and fetched once the disk works."""

        def full(*_: object) -> None:
            raise StoreError("the disk is full")

        notice = running.versions.notice()
        with monkeypatch.context() as disk:
            disk.setattr(running.shelf.spool, what, full)
            running.deployment.announce(notice, retained=False)
            running.deployment.announce(notice, retained=False)  # a reminder
            running.clock.advance(RETRY_SECONDS)
            running.deployment.tick()
            running.deployment.tick()
            assert running.active == 0
        assert len(running.journal.of("version.delayed")) == 2
        assert running.questions() == []
        running.clock.advance(RETRY_SECONDS)
        running.deployment.tick()
        running.serve()
        assert running.active == 1

    def test_the_active_version_needs_no_disk(
        self, running: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Announced again, it is evaluated though nothing can be tidied."""

        def broken(*_: object) -> None:
            raise StoreError("read-only file system")

        monkeypatch.setattr(running.shelf.spool, "keep", broken)
        notice = running.versions.notice(0, evaluate=True)
        running.deployment.announce(notice, retained=True)
        assert running.deployment.followed == notice
        assert running.arrived == [0, 0]

    def test_a_refused_version_leaves_nothing(self, running: Gateway) -> None:
        """What the active version needs stays; told again, it is not fetched again."""
        before = sorted(running.shelf.path("x").parent.glob("*.blob"))
        for number in range(5):
            notice = running.large(self.BLOB[number:])
            running.deployment.announce(notice, retained=True)
            running.serve()
            assert len(running.journal.of("version.refused")) == number + 1
            assert sorted(running.shelf.path("x").parent.glob("*.blob")) == before
        again = structs.replace(notice, evaluate=True)
        running.deployment.announce(again, retained=True)
        assert running.questions() == []
        running.install()
        assert running.active == 1

    def test_a_version_that_is_replaced_on_its_way_leaves_nothing(self, running: Gateway) -> None:
        """Not even the blobs of it that were whole."""
        before = sorted(running.shelf.path("x").parent.glob("*.blob"))
        template = running.versions.put(b"this one does not come")
        notice = structs.replace(running.large(self.BLOB), template=template)
        running.deployment.announce(notice, retained=True)
        running.broadcast(self.BLOB)
        assert running.shelf.has(sha256(self.BLOB))
        running.deployment.announce(running.versions.notice(0), retained=True)
        assert sorted(running.shelf.path("x").parent.glob("*.blob")) == before

    def test_a_version_that_cannot_be_kept_is_tried_again(
        self, running: Gateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The disk is full for a while: the old model scores on, and nothing is fetched twice."""

        def full(*_: object) -> None:
            raise StoreError("full") from OSError(28, "No space left on device")

        with monkeypatch.context() as disk:
            disk.setattr(running.shelf, "activate", full)
            running.deployment.announce(running.versions.notice(), retained=True)
            running.serve()
            running.clock.advance(6.0)
            running.deployment.tick()
        assert running.active == 0
        assert len(running.journal.of("version.delayed")) == 2
        running.clock.advance(4.0)
        running.deployment.tick()
        assert running.active == 0
        running.clock.advance(2.0)
        running.deployment.tick()
        assert (running.active, running.asked) == (1, [])
        running.clock.advance(6.0)
        running.deployment.tick()
        assert running.arrived == [0, 1]


class TestCanary:
    def test_a_mismatch_keeps_the_old_session(self, running: Gateway) -> None:
        """The new version is refused; the old one scores on, and a later one is taken."""
        before = running.score()
        notice = running.versions.notice()
        outputs = unpack_tensor(notice.canary_outputs)
        wrong = structs.replace(notice, canary_outputs=pack_tensor(outputs + np.float32(1)))
        running.deployment.announce(wrong, retained=True)
        running.serve()
        assert running.active == 0
        assert running.score().tolist() == before.tolist()
        [told] = running.journal.of("version.refused")
        assert "canary" in told["error"]
        assert running.questions() == []
        running.deployment.announce(notice, retained=True)
        running.serve()
        assert running.active == 1

    def test_a_version_for_other_windows_is_refused(self, running: Gateway) -> None:
        """It is whole and sound, and belongs to the job as it was before it was changed."""
        other = Versions(a_job(length=16))
        running.versions = other
        running.deployment.announce(other.notice(), retained=True)
        running.serve()
        assert running.active == 0
        [told] = running.journal.of("version.refused")
        assert "(1, 16)" in told["error"]


class TestRestart:
    def again(self, gateway: Gateway) -> Gateway:
        """The gateway after a restart."""
        restarted = Gateway(gateway.shelf.path("x").parent, gateway.versions, clock=gateway.clock)
        restarted.deployment.resume()
        return restarted

    def test_resumes_from_disk(self, running: Gateway) -> None:
        """The active version scores at once, and nothing is asked for."""
        restarted = self.again(running)
        assert restarted.active == 0
        assert restarted.score().tolist() == running.score().tolist()
        assert restarted.questions() == []

    def test_a_fresh_folder_has_nothing_to_resume(self, gateway: Gateway) -> None:
        """It waits for a notice."""
        gateway.deployment.resume()
        assert gateway.active is None
        assert gateway.questions() == []

    @pytest.mark.parametrize("part", ["version", "manifest", "template", "canary_inputs"])
    @pytest.mark.parametrize("damage", ["altered", "gone"])
    def test_what_was_damaged_is_fetched_again(
        self, running: Gateway, part: str, damage: str
    ) -> None:
        """At the latest with the broker's retained notice the agent is whole again."""
        notice = running.versions.notice(0)
        blob: Any = getattr(notice, part)
        path = running.shelf.path(blob if isinstance(blob, str) else blob.sha256)
        path.write_bytes(b"rust")
        if damage == "gone":
            path.unlink()
        restarted = self.again(running)
        assert restarted.active is None
        restarted.deployment.announce(notice, retained=True)
        restarted.serve()
        assert restarted.active == 0


class TestApplyDelta:
    @pytest.mark.parametrize("codec", ["int8", "fp32"])
    def test_equals_the_coordinators_sum(self, codec: str) -> None:
        """`Architecture.next` and the agent hold the same bits; buffers stay the base's."""
        versions = Versions(a_job(codec=codec))
        base, manifest = versions.newest.vector, versions.architecture.manifest
        made = versions.advance(seed=3, scale=1.0)
        found = apply_delta(manifest, base, made.frame, LEARNED)
        assert found.tobytes() == made.vector.tobytes()
        learned = versions.architecture.learned
        assert found[learned:].tobytes() == base[learned:].tobytes()
        assert (manifest.gather(found, LEARNED) != manifest.gather(base, LEARNED)).any()

    @pytest.mark.parametrize("kind", ["foreign", "truncated", "other base", "other layout"])
    def test_refuses_what_is_not_for_this_base(self, kind: str) -> None:
        """The frame names base and layout, and is checked whole."""
        versions = Versions()
        versions.advance()
        base, manifest = versions.made[0].vector, versions.architecture.manifest
        with pytest.raises(FrameError):
            apply_delta(manifest, base, useless_delta(versions, kind), LEARNED)
