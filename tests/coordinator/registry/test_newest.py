# SPDX-License-Identifier: Apache-2.0
"""Versions: what is announced, what may be asked for, what is kept and what is forgotten."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import Struct, msgpack, structs

from fedmill_coordinator.registry.catalogue import export_bytes
from fedmill_coordinator.registry.newest import KEPT_VERSIONS, PRUNE_EVERY, Versions
from fedmill_coordinator.registry.quantised import quantise
from fedmill_coordinator.store.blobs import Blobs
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import JobRecord, RoundRecord
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import FrameError, ModelError, StoreError
from fedmill_shared.job import Job, Wdcnn
from fedmill_shared.link.blocks import BLOCK_SIZE, parse_block
from fedmill_shared.messages import BlobName, BlobRequest, VersionNotice
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.models.quantised import unpack_quantised

NORMALISER = Normaliser(mean=((20.0, -3.0),), scale=((4.0, 0.5),))
NAME = "tiny"


class Voice:
    """Writes down what is broadcast, and apart from it what is told to one agent."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Struct | bytes]] = []
        self.told: list[tuple[str, bytes]] = []

    def tell(self, job: str, agent: str, kind: str, message: Struct | bytes) -> None:
        """To one agent: blocks."""
        assert kind == "block"
        assert isinstance(message, bytes)
        self.told.append((agent, message))

    def broadcast(self, job: str, kind: str, message: Struct | bytes) -> None:
        """To all agents."""
        self.said.append((kind, message))

    def notice(self) -> VersionNotice:
        """The last version that was announced."""
        return next(m for _, m in reversed(self.said) if isinstance(m, VersionNotice))


class Shop:
    """Versions over a store, and rounds to release from."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.job = job
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.blobs = Blobs(folder / "blobs")
        self.voice = Voice()
        now = self.clock.now_ns()
        self.store.add_job(
            JobRecord(
                name=NAME,
                text="",
                sha256="0" * 64,
                state="running",
                created_ns=now,
                updated_ns=now,
                normaliser=msgpack.encode(NORMALISER),
            )
        )
        self.versions = self.fresh()

    def fresh(self) -> Versions:
        """Another process on the same store."""
        return Versions(self.job, self.store, self.blobs, self.voice, self.clock)

    def advance(self, number: int, delta: np.ndarray | None = None) -> bool:
        """Round ``number``, with some delta."""
        opened = RoundRecord(
            job=NAME,
            round=number,
            base=self.versions.version,
            state="open",
            opened_ns=self.clock.now_ns(),
            deadline_ns=self.clock.now_ns(),
        )
        self.store.open_round(opened)
        if delta is None:
            generator = np.random.default_rng(number)
            delta = generator.normal(0, 0.1, self.versions.learned).astype(np.float32)
        closed = structs.replace(opened, state="closed", closed_ns=self.clock.now_ns())
        made = self.versions.advance(delta, closed, rule_state=b"state", included=[], discarded=[])
        self.versions.tidy()
        return made

    def ask(self, blob: str, *missing: int, agent: str = "a") -> list[Any]:
        """Blocks that a request brings."""
        self.request(blob, *missing, agent=agent)
        self.versions.offers.serve(1000)
        told, self.voice.told[:] = list(self.voice.told), []
        assert {each for each, _ in told} <= {agent}
        return [parse_block(block) for _, block in told]

    def request(self, blob: str, *missing: int, agent: str = "a") -> None:
        """An agent asks for blocks; nobody serves it yet."""
        self.versions.offers.request(agent, BlobRequest(job=NAME, blob=blob, missing=list(missing)))

    def large(self, blocks: int) -> str:
        """A blob of so many blocks that is on offer."""
        data = np.random.default_rng(0).bytes(blocks * BLOCK_SIZE)
        large = self.blobs.put(data)
        self.versions.offers.lay_out("large", [BlobName(sha256=large, size=len(data))])
        return large


@pytest.fixture
def shop(tmp_path: Path, tiny_job: Callable[..., Job], exported_once: None) -> Shop:
    """Versions before the first version."""
    return Shop(tmp_path, tiny_job())


@pytest.fixture
def opened(shop: Shop) -> Shop:
    """Versions with version 0, announced."""
    shop.versions.create(NORMALISER)
    shop.versions.announce(evaluate=True, with_delta=False)
    return shop


class TestCreate:
    """Version 0."""

    def test_nothing_is_there_before(self, shop: Shop) -> None:
        """Without a version nothing can be told of it."""
        assert not shop.versions.ready
        for ask in ("version", "learned", "layout"):
            with pytest.raises(StoreError, match="no version yet"):
                getattr(shop.versions, ask)

    def test_it_is_the_candidate(self, opened: Shop) -> None:
        """Row, alias and every part of it are stored."""
        [record] = opened.store.versions(NAME)
        assert (record.number, record.base, record.delta) == (0, None, None)
        alias = opened.store.alias(NAME, "candidate")
        assert alias is not None
        assert alias.version == record.version == opened.versions.version
        assert all(opened.blobs.has(blob) for blob in opened.store.live_blobs())

    def test_a_second_time_changes_nothing(self, opened: Shop) -> None:
        """A kill before the job is said to run leads here again."""
        before = opened.store.versions(NAME)
        again = opened.fresh()
        again.create(NORMALISER)
        assert again.version == opened.versions.version
        assert opened.store.versions(NAME) == before


class TestRestore:
    """The newest version, taken up after a restart."""

    def test_goes_on_as_if_nothing_had_happened(self, opened: Shop) -> None:
        """The next delta makes the same version with and without a restart between."""
        opened.advance(1)
        restored = opened.fresh()
        restored.restore()
        assert restored.version == opened.versions.version
        assert (restored.learned, restored.layout) == (
            opened.versions.learned,
            opened.versions.layout,
        )

    def test_without_a_version(self, shop: Shop) -> None:
        """A store that contradicts itself is an error with a remedy."""
        with pytest.raises(StoreError, match=r"holds no version .*backup"):
            shop.versions.restore()

    def test_with_a_lost_blob(self, opened: Shop) -> None:
        """What the version is made of is named when it is gone."""
        weights = opened.store.versions(NAME)[0].weights or ""
        opened.blobs.delete(weights)
        with pytest.raises(StoreError, match=weights):
            opened.fresh().restore()


class TestAnnounce:
    """What agents are told."""

    def test_every_part_is_named_with_its_size(self, opened: Shop) -> None:
        """Manifest, template, canary and snapshot can be asked for by name and are that long."""
        notice = opened.voice.notice()
        for part in (notice.manifest, notice.template, notice.canary_inputs, notice.snapshot):
            assert opened.blobs.size(part.sha256) == part.size
        assert (notice.number, notice.base, notice.delta, notice.evaluate) == (0, "", None, True)

    def test_the_delta_follows_unasked(self, opened: Shop) -> None:
        """One broadcast for all behind the notice; not when only repeated."""
        opened.advance(1)
        opened.voice.said.clear()
        opened.versions.announce(evaluate=False, with_delta=True)
        assert opened.versions.offers.serve(9) == 1
        assert [kind for kind, _ in opened.voice.said] == ["version", "block"]
        notice, block = opened.voice.notice(), opened.voice.said[1][1]
        assert notice.delta is not None
        assert isinstance(block, bytes)
        assert parse_block(block).blob == notice.delta.sha256
        opened.voice.said.clear()
        opened.versions.announce(evaluate=False, with_delta=False)
        assert opened.versions.offers.serve(9) == 0
        assert [kind for kind, _ in opened.voice.said] == ["version"]

    def test_all_of_the_first_version_follows_unasked(self, opened: Shop) -> None:
        """Everybody lacks all of it; the smallest parts come first."""
        opened.voice.said.clear()
        opened.versions.announce(evaluate=True, with_delta=True)
        assert opened.versions.offers.serve(9) == 4
        notice, (_, *sent) = opened.voice.notice(), opened.voice.said
        parts = [notice.manifest, notice.template, notice.canary_inputs, notice.snapshot]
        assert [parse_block(block).blob for _, block in sent] == [part.sha256 for part in parts]
        assert opened.versions.offers.serve(9) == 0

    def test_what_waits_of_an_older_version_is_not_sent(self, opened: Shop) -> None:
        """Neither its delta nor what agents asked for; the same version again keeps both."""
        opened.advance(1)
        opened.versions.announce(evaluate=False, with_delta=True)
        opened.request(opened.voice.notice().snapshot.sha256, 0)
        opened.versions.announce(evaluate=True, with_delta=False)
        opened.advance(2)
        before = len(opened.voice.said)
        assert opened.versions.offers.serve(1) == 1
        assert [kind for kind, _ in opened.voice.said[before:]] == ["block"]
        opened.versions.announce(evaluate=False, with_delta=False)
        assert opened.versions.offers.serve(9) == 0

    def test_promote(self, opened: Shop) -> None:
        """The newest version becomes stable, and what was stable becomes previous."""
        opened.versions.promote()
        opened.advance(1)
        opened.versions.promote()
        found = {alias.alias: alias.version for alias in opened.store.aliases(NAME)}
        zero, one = (record.version for record in opened.store.versions(NAME))
        assert found == {"candidate": one, "stable": one, "previous": zero}


class TestInt8:
    """The template's int8 form, of models that have convolutions."""

    @pytest.fixture
    def convolving(self, tmp_path: Path, tiny_job: Callable[..., Job], exported_once: None) -> Shop:
        """Versions of a small convolutional network."""
        model = Wdcnn(channels=[4], kernel=2, stride=1)
        shop = Shop(tmp_path, structs.replace(tiny_job(), model=model))
        shop.versions.create(NORMALISER)
        return shop

    def test_is_named_and_can_be_asked_for(self, convolving: Shop) -> None:
        """Nobody gets it unasked; it is made for the very template beside it."""
        convolving.versions.announce(evaluate=True, with_delta=True)
        assert convolving.versions.offers.serve(9) == 4
        named = convolving.voice.notice().quantised
        assert named is not None
        [block] = convolving.ask(named.sha256, 0)
        template = convolving.blobs.get(convolving.voice.notice().template.sha256, 1 << 20)
        assert block.payload == quantise(template)

    def test_outlives_a_restart_and_a_tidying(self, convolving: Shop) -> None:
        """The store knows that it is needed."""
        convolving.versions = convolving.fresh()
        convolving.versions.restore()
        convolving.blobs.prune(convolving.store.live_blobs())
        convolving.versions.announce(evaluate=True, with_delta=False)
        named = convolving.voice.notice().quantised
        assert named is not None
        assert unpack_quantised(convolving.blobs.get(named.sha256, 1 << 20)).points == 2

    def test_a_perceptron_has_none(self, opened: Shop) -> None:
        """Its notice is as it ever was."""
        assert opened.voice.notice().quantised is None


class TestBlocks:
    """What agents may pull."""

    def test_the_announced_parts(self, opened: Shop) -> None:
        """Each of them, as it is stored."""
        notice = opened.voice.notice()
        for part in (notice.manifest, notice.template, notice.canary_inputs, notice.snapshot):
            [block] = opened.ask(part.sha256, 0)
            assert block.payload == opened.blobs.get(part.sha256, 1 << 20)

    def test_nothing_else(self, opened: Shop) -> None:
        """Neither a blob that is not there nor one that is nobody's business."""
        private = opened.blobs.put(b"the update of another agent")
        for blob in (private, "ab" * 32):
            with pytest.raises(FrameError, match="part of no version that is on offer"):
                opened.ask(blob, 0)

    def test_not_before_an_announcement(self, opened: Shop) -> None:
        """A version that was made but not announced is not on offer."""
        opened.advance(1)
        delta = opened.store.versions(NAME)[1].delta or ""
        with pytest.raises(FrameError):
            opened.ask(delta, 0)
        opened.versions.announce(evaluate=False, with_delta=False)
        assert opened.ask(delta, 0)

    def test_a_block_beyond_the_end(self, opened: Shop) -> None:
        """An index that the blob does not have."""
        with pytest.raises(FrameError, match="block 1 asked for, but the blob has 1"):
            opened.ask(opened.voice.notice().snapshot.sha256, 1)

    def test_at_most_a_window_at_once(self, opened: Shop) -> None:
        """Of nine blocks asked for, eight come: the answer to one message is bounded."""
        large = opened.large(9)
        assert [block.index for block in opened.ask(large, *range(9))] == list(range(8))
        assert [block.index for block in opened.ask(large, 8, 3)] == [8, 3]

    def test_the_budget_is_kept(self, opened: Shop) -> None:
        """Small bites, in turn, until everything is sent; the daemon decides when."""
        large = opened.large(8)
        for agent in ("a", "b"):
            opened.request(large, *range(8), agent=agent)
        served = []
        while sent := opened.versions.offers.serve(3):
            served.append(sent)
        assert served == [3, 3, 3, 3, 3, 1]
        told = [(agent, parse_block(block).index) for agent, block in opened.voice.told]
        assert sorted(told) == [(agent, n) for agent in ("a", "b") for n in range(8)]
        assert [agent for agent, _ in told[:6]] == ["a"] * 3 + ["b"] * 3

    def test_no_more_than_a_block_is_in_memory(self, opened: Shop) -> None:
        """The blob is neither read whole nor hashed for a request."""
        large = opened.large(40)
        opened.voice.tell = lambda *message: None  # type: ignore[method-assign]
        tracemalloc.start()
        try:
            for start in range(0, 40, 8):
                opened.request(large, *range(start, start + 8))
                assert opened.versions.offers.serve(8) == 8
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 5 * BLOCK_SIZE

    def test_a_lost_file(self, opened: Shop) -> None:
        """The disk lost a part of the version: it is named, and the others are still served."""
        notice = opened.voice.notice()
        opened.request(notice.snapshot.sha256, 0)
        opened.blobs.delete(notice.snapshot.sha256)
        with pytest.raises(StoreError, match=f"{notice.snapshot.sha256}: cannot be read"):
            opened.versions.offers.serve(9)
        assert opened.ask(notice.manifest.sha256, 0)


class TestAdvance:
    """A delta makes the next version."""

    def test_all_or_nothing(self, opened: Shop) -> None:
        """A delta that makes no model leaves the round open and the version as it is."""
        before = opened.versions.version
        with pytest.raises(ModelError):
            opened.advance(1, np.full(opened.versions.learned, 3e38, np.float32))
        assert opened.versions.version == before
        assert len(opened.store.versions(NAME)) == 1
        current = opened.store.current_round(NAME)
        assert current is not None
        assert current.round == 1

    def test_a_zero_delta_is_no_version(self, opened: Shop) -> None:
        """The round closes, the version stays."""
        zero = np.zeros(opened.versions.learned, np.float32)
        assert opened.advance(1, zero) is False
        assert opened.advance(2) is True
        assert [record.number for record in opened.store.versions(NAME)] == [0, 1]

    def test_back_to_an_older_version(
        self, tmp_path: Path, tiny_job: Callable[..., Job], exported_once: None
    ) -> None:
        """Versions are named by content, so a round that leads back is refused, not stored."""
        shop = Shop(tmp_path, tiny_job(downlink="fp32"))
        shop.versions.create(NORMALISER)
        # A power of two far above the weights: adding it rounds them once, and never again.
        there = np.full(shop.versions.learned, 1024.0, np.float32)
        shop.advance(1, there)
        first = shop.versions.version
        shop.advance(2, -there)
        with pytest.raises(ModelError, match=f"leads back to version {first[:12]}"):
            shop.advance(3, there)


class TestPrune:
    """What old versions leave behind."""

    ROUNDS = 2 * PRUNE_EVERY + 5

    @pytest.fixture
    def long(self, opened: Shop) -> Shop:
        """Many rounds; version 3 is stable, version 2 was before."""
        for number in range(1, self.ROUNDS + 1):
            opened.advance(number)
            opened.versions.announce(evaluate=False, with_delta=True)
            if number in (2, 3):
                opened.versions.promote()
        return opened

    def kept(self, shop: Shop) -> list[int]:
        """Numbers of the versions that still have their weights."""
        return [record.number for record in shop.store.versions(NAME) if record.weights]

    def test_the_newest_and_the_named_are_kept(self, long: Shop) -> None:
        """The rows of all versions, the weights of those with an alias and of the last ones."""
        assert len(long.store.versions(NAME)) == self.ROUNDS + 1
        oldest = 2 * PRUNE_EVERY - KEPT_VERSIONS + 1
        assert self.kept(long) == [2, 3, *range(oldest, self.ROUNDS + 1)]

    def test_no_blob_is_missing_and_few_are_left_over(self, long: Shop) -> None:
        """Everything that a row needs is there; what a row does not need is of the last rounds."""
        names = set(long.blobs.names())
        assert long.store.live_blobs() <= names
        # manifest; residuals of the rounds since the last pruning, and of that one
        assert len(names - long.store.live_blobs()) <= 1 + self.ROUNDS % PRUNE_EVERY + 1

    def test_agents_can_still_ask_for_the_announced_version(self, long: Shop) -> None:
        """Also right after a pruning, before the next announcement."""
        for number in range(self.ROUNDS + 1, 3 * PRUNE_EVERY + 1):
            long.advance(number)
        notice = long.voice.notice()
        assert notice.number == self.ROUNDS
        assert notice.delta is not None
        for part in (notice.manifest, notice.template, notice.snapshot, notice.delta):
            assert long.ask(part.sha256, 0)

    def test_what_another_job_needs_is_kept(self, opened: Shop) -> None:
        """Jobs share the blobs: nobody prunes the manifest that another one has announced."""
        record = opened.store.job(NAME)
        assert record is not None
        opened.store.add_job(structs.replace(record, name="other", manifest=b"of the other"))
        manifest = opened.blobs.put(b"of the other")
        for number in range(1, PRUNE_EVERY + 1):
            opened.advance(number)
        assert opened.blobs.has(manifest)

    def test_a_disk_that_fails_is_tried_later(
        self, opened: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The versions are made all the same, and the next pruning makes up for it."""

        def fail(*_: object) -> int:
            raise StoreError("read-only")

        with monkeypatch.context() as disk:
            disk.setattr(opened.blobs, "prune", fail)
            for number in range(1, PRUNE_EVERY):
                opened.advance(number)
            with pytest.raises(StoreError, match="read-only"):
                opened.advance(PRUNE_EVERY)
        for number in range(PRUNE_EVERY + 1, 2 * PRUNE_EVERY + 1):
            opened.advance(number)
        assert min(self.kept(opened)) > PRUNE_EVERY

    def test_a_restart_after_it(self, long: Shop) -> None:
        """The newest version is whole."""
        restored = long.fresh()
        restored.restore()
        assert restored.version == long.versions.version
        restored.announce(evaluate=False, with_delta=True)

    def test_a_forgotten_version_cannot_be_exported(self, long: Shop) -> None:
        """The error names the version and the way out; a kept one can be."""
        versions = long.store.versions(NAME)
        with pytest.raises(StoreError, match=r"version 5 .* no longer kept .*models list"):
            export_bytes(long.store, long.blobs, versions[5])
        assert export_bytes(long.store, long.blobs, versions[3])[:1] == b"\x08"
