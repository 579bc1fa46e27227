# SPDX-License-Identifier: Apache-2.0
"""A whole agent on a broker in memory; its trainer works in this process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import (
    LENGTH,
    Versions,
    a_job,
    choosing,
    classes_of,
    two_classes,
    write_csv,
)
from tests.agent.whole import (
    JOB,
    ONLY_TRAIN,
    Agent,
    Plant,
    joined,
    open_round,
    release,
)

from fedmill_agent import heartbeat
from fedmill_agent.changes import changes
from fedmill_agent.daemon import Daemon
from fedmill_agent.home import current
from fedmill_agent.places import windows_file
from fedmill_agent.seat import TRAINER_TRIES
from fedmill_agent.skew import SKEW_SECONDS
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training import protocol
from fedmill_shared.codec.frame import decode_frame
from fedmill_shared.errors import StoreError
from fedmill_shared.job import Learning
from fedmill_shared.job_check import canonical
from fedmill_shared.learning.home import personalised
from fedmill_shared.messages import JobNotice, Receipt, RoundNotice
from fedmill_shared.models.manifest import version_of
from fedmill_shared.protocol import NEWEST
from fedmill_shared.schema import schema_hash


class TestJoin:
    def test_a_job_that_fits(self, plant: Plant) -> None:
        """Its recordings are read, then the agent joins and tells its statistics."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: plant.said("moments"))
        [join] = plant.said("join")
        assert join.job == "press"
        assert join.schema == schema_hash(JOB)
        assert join.windows == {"train": 12, "validation": 0, "test": 0}
        [report] = plant.said("moments")
        assert report.moments.cells[0].count == 12 * LENGTH
        assert plant.said("refusal") == []
        assert agent.phase() == "joined"
        agent.daemon._heartbeat.beat()
        assert plant.said("state")[-1].jobs["press"].phase == "joined"

    @pytest.mark.parametrize("newest", [NEWEST, 0])
    def test_the_whole_way_to_an_update(self, plant: Plant, newest: int) -> None:
        """Version, round, training, update, receipt; and the result's version as a delta.

        With a coordinator of this protocol, and with one that knows of the first one only.
        """
        plant.coordinator.newest = newest
        agent, versions = joined(plant, evaluate=True)
        base = versions.newest.version
        open_round(plant, versions)
        agent.until(lambda: plant.coordinator.frames and plant.said("evaluation"))
        [offer] = plant.said("update")
        assert (offer.round, offer.base, offer.examples) == (1, base, 12)
        assert (offer.protocol, offer.offered_again) == (newest or 1, False)
        frame = plant.coordinator.frames[offer.sha256]
        header, delta = decode_frame(frame, elements=versions.architecture.learned)
        assert header.base == base[:16]
        assert np.abs(delta).max() > 0
        plant.coordinator.answer(
            Receipt(job="press", round=1, sha256=offer.sha256, fate="received")
        )
        made = versions.advance()
        plant.coordinator.tell("version", versions.notice())
        plant.coordinator.tell(
            "round",
            RoundNotice(job="press", round=0, closed=1, included={"a": offer.sha256}),
        )
        agent.until(lambda: agent.word().jobs["press"].version == made.version)
        assert list((agent.state / "jobs" / "press" / "outbox").iterdir()) == []
        agent.run(200)
        assert len(plant.said("update")) == 1

    @pytest.mark.parametrize("order", [("version", "round", "job"), ("round", "job", "version")])
    def test_retained_notices_in_any_order(self, plant: Plant, order: Sequence[str]) -> None:
        """A broker may deliver them as it likes; none is lost."""
        versions = Versions(JOB)
        plant.coordinator.versions = {"press": versions}
        messages = {
            "job": JobNotice(job="press", text=canonical(JOB), state="running"),
            "version": versions.notice(),
            "round": RoundNotice(job="press", round=1, base=versions.newest.version),
        }
        for kind in order:
            plant.coordinator.tell(kind, messages[kind])
        agent = plant.agent()
        agent.until(lambda: plant.said("update"))
        assert plant.said("update")[0].round == 1

    def test_two_jobs_at_once(self, plant: Plant) -> None:
        """Each has its own windows, model and rounds; a block finds the job that wants it."""
        other = a_job("drill", evaluation=ONLY_TRAIN)
        agent = plant.agent()
        for job in (JOB, other):
            plant.coordinator.offer(job, state="running")
        agent.until(lambda: len(plant.said("join")) == 2)
        for job in (JOB, other):
            versions = Versions(job)
            release(plant, agent, versions)
            open_round(plant, versions)
        agent.until(lambda: len(plant.said("update")) == 2)
        assert sorted(offer.job for offer in plant.said("update")) == ["drill", "press"]
        assert len({offer.sha256 for offer in plant.said("update")}) == 2

    def test_a_gateway_that_only_scores(self, plant: Plant) -> None:
        """Training switched off: it neither joins nor trains nor evaluates, and scores."""
        agent = plant.agent(structs.replace(plant.recording(), split="live"), training=False)
        versions = Versions(JOB)
        plant.coordinator.offer(JOB, state="running")
        agent.until(lambda: agent.phase() == "waiting")
        release(plant, agent, versions, evaluate=True)
        open_round(plant, versions)
        agent.run()
        assert agent.trainer.requests == []
        assert plant.said("join") == plant.said("refusal") == []

    def test_labels_that_come_later(self, plant: Plant) -> None:
        """Until then the agent waits; it joins when it can learn."""
        values = two_classes(runs=1, windows=12)
        path = write_csv(plant.folder / "live.csv", values)
        live = CsvOptions(name="live", path=str(path), speed=1e4, repeat=True, split="train")
        agent = plant.agent(live)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.word().jobs.get("press"))
        agent.until(lambda: agent.word().jobs["press"].windows.get("train", 0) > 2)
        agent.run()
        assert agent.phase() == "waiting"
        work = agent.seat()._work
        [first] = work.store._database.execute("SELECT run, start_ns, end_ns FROM windows LIMIT 1")
        work.store.add_labels([LabelInterval(*first, text="good")])
        agent.until(lambda: plant.said("join"))
        assert plant.said("refusal") == []


class TestTrainer:
    def test_a_death_is_tried_again(self, plant: Plant) -> None:
        """Statistics and rounds alike, a few times; then the coordinator is told."""
        agent = plant.agent()
        agent.trainer.lazy = True
        plant.coordinator.offer(JOB)
        for attempt in range(1, TRAINER_TRIES + 1):
            agent.until(lambda a=attempt: len(agent.trainer.asked(protocol.CollectMoments)) == a)
            assert plant.said("refusal") == []
            agent.trainer.die()
        agent.until(lambda: plant.said("refusal"))
        [refusal] = plant.said("refusal")
        assert (refusal.reason, refusal.text) == (
            "TrainerError",
            "the training process died 3 times",
        )
        agent.run()
        assert len(agent.trainer.asked(protocol.CollectMoments)) == TRAINER_TRIES
        assert len(agent.journal.of("trainer.died")) == TRAINER_TRIES

    def test_the_count_starts_anew_with_a_success(self, plant: Plant) -> None:
        """Now and then a death is nothing to give up for."""
        agent, versions = joined(plant)
        for round_ in range(1, 5):
            agent.trainer.lazy = True
            open_round(plant, versions, round_)
            agent.until(lambda: agent.trainer.waiting)
            agent.trainer.die()
            agent.until(lambda: agent.journal.of("trainer.died"))
            agent.until(lambda: agent.trainer.waiting)
            agent.trainer.lazy = False
            agent.trainer.work()
            agent.until(lambda r=round_: len(plant.said("update")) == r)
        assert plant.said("refusal") == []

    def test_a_training_that_fails_is_told(self, plant: Plant) -> None:
        """With the error's class and text."""
        agent, versions = joined(plant)
        agent.run()
        Path(agent.seat()._work.deployment.weights_path()).write_bytes(b"rust")
        open_round(plant, versions)
        agent.until(lambda: plant.said("refusal"))
        assert plant.said("refusal")[0].reason == "StoreError"
        agent.run(100)
        assert len(plant.said("refusal")) == 1


class TestRound:
    def test_who_is_not_asked_does_not_train(self, plant: Plant) -> None:
        """Until another attempt of the round asks this agent too."""
        agent, versions = joined(plant)
        open_round(plant, versions, cohort=["b"])
        agent.run()
        assert agent.trainer.asked(protocol.Train) == []
        open_round(plant, versions, cohort=["a"], attempt=1)
        agent.until(lambda: plant.said("update"))

    def test_an_agent_that_is_not_selected(self, plant: Plant) -> None:
        """Its state says why, and what labels it has."""
        agent = plant.agent(labels={"line": "B"})
        plant.coordinator.offer(a_job(evaluation=ONLY_TRAIN, select='line == "A"'))
        agent.until(lambda: agent.phase() == "refused")
        agent.daemon._heartbeat.beat()
        state = plant.said("state")[-1]
        assert state.labels == {"line": "B"}
        assert state.newest == NEWEST
        assert "line" in state.jobs["press"].ineligible
        assert plant.said("join") == plant.said("refusal") == []


class TestReload:
    def adopt(self, daemon: Daemon, **fields: Any) -> None:
        """The file has other sections from now on."""
        old = daemon._config
        config = structs.replace(old, **fields)
        daemon._adopt(config, changes(old, config))

    def test_a_job_that_selects_the_agent_now(self, plant: Plant) -> None:
        """Version and round were told while it had no part in the job; nobody tells them again."""
        agent = plant.agent(labels={"line": "B"})
        job = a_job(evaluation=ONLY_TRAIN, select='line == "A"')
        versions = Versions(job)
        plant.coordinator.versions = {job.name: versions}
        plant.coordinator.offer(job, state="running")
        plant.coordinator.tell("version", versions.notice())
        open_round(plant, versions)
        agent.until(lambda: agent.phase() == "refused")
        agent.run()
        section = structs.replace(agent.daemon._config.agent, labels={"line": "A"})
        self.adopt(agent.daemon, agent=section)
        agent.until(lambda: agent.word().jobs["press"].version == versions.newest.version)
        agent.until(lambda: plant.said("update"))

    def test_windows_that_are_kept_aside_from_now_on(self, plant: Plant) -> None:
        """What comes next is compared on them: with the models that are there already as well."""
        agent, _ = joined(plant)
        held_out = agent.seat()._work.deployment.installer._around.held_out
        assert not held_out.enough()
        values = two_classes(runs=4, windows=10, seed=5)
        path = write_csv(plant.folder / "aside.csv", values, classes_of(values))
        aside = CsvOptions(
            name="aside",
            path=str(path),
            run_column="run",
            label_column="label",
            split="validation",
        )
        self.adopt(agent.daemon, sources=[*agent.daemon._config.sources, aside])
        agent.until(held_out.enough)

    def test_a_version_that_was_on_its_way(self, plant: Plant) -> None:
        """It is fetched on by what takes its place."""
        agent, versions = joined(plant)
        plant.coordinator.deaf = True
        versions.advance()
        plant.coordinator.tell("version", versions.notice())
        agent.run()
        self.adopt(agent.daemon, inference=structs.replace(agent.daemon._config.inference, batch=8))
        agent.run()
        assert agent.word().jobs["press"].version == versions.made[0].version
        plant.coordinator.deaf = False
        agent.until(lambda: agent.word().jobs["press"].version == versions.newest.version)


class TestClock:
    def notice(self, agent: Agent, seconds: float) -> RoundNotice:
        """A round notice from a coordinator whose clock is ``seconds`` behind."""
        sent_ns = agent.clock.now_ns() - int(seconds * 1e9)
        return RoundNotice(job="press", round=0, sent_ns=sent_ns)

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_a_wrong_one_is_told_once(self, plant: Plant, sign: int) -> None:
        """With the second notice that says so, and again if it was right in between."""
        agent = plant.agent()
        agent.clock.advance(10**6)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        steps = ((50, 0), (100, 0), (100, 1), (100, 1), (-1, 1), (100, 1), (100, 2))
        for skew, warnings in steps:
            plant.coordinator.tell("round", self.notice(agent, sign * skew))
            agent.run(60)
            assert len(agent.journal.of("clock.skewed")) == warnings
        told = agent.journal.of("clock.skewed")[0]
        assert abs(told["seconds"] - sign * 100) <= 1
        assert SKEW_SECONDS == 60

    def test_what_was_queued_while_it_was_away_says_nothing_about_it(self, plant: Plant) -> None:
        """The session keeps reminders: they come all at once, and each is as old as it is."""
        agent = plant.agent()
        agent.clock.advance(10**6)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        agent.link.vanish()
        for age in (900, 890, 880, 300, 290, 100):
            plant.coordinator.tell("round", self.notice(agent, age), retain=False)
        agent.link.start()
        agent.run(60)
        plant.coordinator.tell("round", self.notice(agent, 0), retain=False)
        agent.run(60)
        assert agent.journal.of("clock.skewed") == []

    def test_a_notice_that_was_kept_says_nothing_about_it(self, plant: Plant) -> None:
        """Nor does one of software that does not tell the time."""
        agent = plant.agent(online=False)
        agent.clock.advance(10**6)
        plant.coordinator.offer(JOB)
        plant.coordinator.tell("round", self.notice(agent, 1000))
        agent.link.start()
        agent.until(lambda: agent.phase() == "joined")
        plant.coordinator.tell("round", RoundNotice(job="press", round=0))
        agent.run()
        assert agent.journal.of("clock.skewed") == []


class TestDisk:
    def test_a_damaged_store_is_set_aside_loudly(self, plant: Plant) -> None:
        """The agent starts with a fresh one, and says so."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.stop(agent)
        path = windows_file(str(agent.state), JOB)
        path.write_bytes(b"rust" * 4096)
        again = plant.agent()
        again.until(lambda: again.journal.of("store.set_aside"))
        [told] = again.journal.of("store.set_aside")
        assert Path(told["path"]).read_bytes() == b"rust" * 4096
        again.until(lambda: again.phase() == "joined")
        again.run()
        assert len(again.journal.of("store.set_aside")) == 1

    def test_a_full_disk_is_told_once_a_minute(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A minute, and not for each window; the agent lives on and tells its state."""

        def full(*_: object) -> None:
            raise StoreError("windows.sqlite: database or disk is full")

        stream = structs.replace(plant.recording("stream"), repeat=True)
        agent = plant.agent(stream)
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        with monkeypatch.context() as patch:
            patch.setattr(WindowStore, "add", full)
            patch.setattr(heartbeat, "write_status", lambda *_, **__: full())
            agent.until(lambda: agent.journal.of("windows.lost"))
            agent.run(100)
            assert len(agent.journal.of("windows.lost")) == 1
            agent.until(lambda: len(agent.journal.of("windows.lost")) == 2)
            assert agent.journal.of("event.failed")
        stored = agent.word().jobs["press"].windows["train"]
        agent.until(lambda: agent.word().jobs["press"].windows["train"] > stored)

    def test_a_broken_store_keeps_nobody_from_leaving(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The farewell is sent without what the store would have told."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")

        def broken(*_: object) -> None:
            raise StoreError("windows.sqlite: cannot be read")

        monkeypatch.setattr(WindowStore, "counts", broken)
        plant.stop(agent)
        assert not plant.said("state")[-1].online
        assert agent.journal.of("agent.stopped")


class TestOrder:
    def test_recordings_are_read_one_after_another(self, plant: Plant) -> None:
        """In the order of the configuration, and beside them what is paced."""
        paced = structs.replace(plant.recording("paced"), speed=1e6)
        sources = [plant.recording(name) for name in ("first", "second", "third")]
        agent = plant.agent(paced, *sources)
        heard: list[str] = []
        plant.coordinator.offer(JOB)
        agent.until(agent.phase)
        seat = agent.seat()
        feed = seat.feed

        def listening(fed: Any, **more: bool) -> None:
            if fed.event.source not in heard:
                heard.append(fed.event.source)
            feed(fed, **more)

        seat.feed = listening
        agent.until(lambda: agent.phase() == "joined")
        assert [name for name in heard if name != "paced"] == ["first", "second", "third"]
        assert agent.word().jobs["press"].windows["train"] in (36, 48)


class TestServing:
    """An agent that chooses what it scores with, from the first round to a restart."""

    JOB = choosing(1, rounds=2, learning=Learning(learning_rate=0.05, batch_size=4, epochs=8))

    def recording(self, plant: Plant) -> CsvOptions:
        """Eight runs, two to choose by and two for the test; worn machines vibrate around 2."""
        runs = two_classes(8, seed=3)
        worn = {name: [2.0 + value / 3 for value in runs[name]] for name in runs if "worn" in name}
        return plant.recording(**(runs | worn))

    def round(self, plant: Plant, agent: Agent, versions: Versions, number: int) -> None:
        """A round opens, this agent delivers, and a random version comes of it."""
        open_round(plant, versions, number)
        agent.until(lambda: len(plant.said("update")) == number)
        offer = plant.said("update")[-1]
        agent.run()
        versions.advance(seed=number)
        plant.coordinator.tell("version", versions.notice(evaluate=True))
        plant.coordinator.tell(
            "round", RoundNotice(job="press", closed=number, round=0, included={"a": offer.sha256})
        )

    def phase(self, agent: Agent) -> Any:
        """What the agent says of itself."""
        return agent.word().jobs["press"]

    def test_the_whole_way_to_a_choice_and_back(self, plant: Plant) -> None:
        """A federation that learns nothing is no reason to score badly; a restart goes on."""
        source, versions = self.recording(plant), Versions(self.JOB)
        agent = plant.agent(source)
        plant.coordinator.offer(self.JOB, state="running")
        agent.until(lambda: plant.said("join"))
        assert plant.said("join")[0].windows == {"train": 12, "validation": 6, "test": 6}
        release(plant, agent, versions)
        for number in (1, 2):
            self.round(plant, agent, versions, number)
            agent.until(lambda number=number: len(agent.journal.of("model.chosen")) == number)
        agent.until(lambda: plant.said("evaluation")[-1].version == versions.newest.version)
        told, phase = plant.said("evaluation")[-1], self.phase(agent)
        assert phase.version == told.version == versions.newest.version
        assert set(told.candidates) == set(told.validation) == {"global", "personal", "local"}
        assert told.served == phase.served == agent.journal.of("model.chosen")[-1]["candidate"]
        assert phase.scores == told.validation
        assert told.served != "global"
        assert told.validation[told.served] == max(told.validation.values())
        assert told.statistic == told.candidates["global"]
        served = agent.seat()._work.scorer.version
        assert served not in [made.version for made in versions.made]
        folder = agent.state / "jobs" / "press"
        assert {"alone.msgpack", "served.msgpack"} <= {path.name for path in folder.iterdir()}
        plant.stop(agent)

        again = plant.agent(self.recording(plant), online=False)
        assert self.phase(again).served == told.served
        assert again.seat()._work.scorer.version == served
        again.run()
        assert again.trainer.asked(protocol.Choose) == []

    def test_trainings_come_first(self, plant: Plant) -> None:
        """A round that opens while a slice is in hand waits for that slice alone."""
        source, versions = self.recording(plant), Versions(self.JOB)
        agent = plant.agent(source)
        agent.trainer.lazy = True
        plant.coordinator.offer(self.JOB, state="running")
        agent.until(lambda: plant.said("join"))
        agent.trainer.work()
        release(plant, agent, versions)
        versions.advance(seed=1)
        release(plant, agent, versions)
        agent.until(lambda: agent.trainer.asked(protocol.TrainAlone))
        open_round(plant, versions, 2)
        agent.run()
        kinds = [type(request) for request in agent.trainer.waiting]
        assert kinds == [protocol.TrainAlone, protocol.Train]
        agent.trainer.lazy = False
        agent.trainer.work()
        agent.until(lambda: plant.said("update"))

    def test_a_damaged_choice_is_made_again(self, plant: Plant) -> None:
        """The common version scores until then."""
        agent, versions = joined(plant, self.recording(plant), job=self.JOB)
        self.round(plant, agent, versions, 1)
        agent.until(lambda: agent.journal.of("model.chosen"))
        served = self.phase(agent).served
        path = agent.state / "jobs" / "press" / "served.msgpack"
        before = path.read_bytes()
        plant.stop(agent)
        path.write_bytes(before[:-1] + b"?")

        again = plant.agent(self.recording(plant))
        assert self.phase(again).served == ""
        scorer = again.seat()._work.scorer
        assert scorer.version == versions.newest.version
        assert len(again.journal.of("served.refused")) == 1
        again.until(lambda: self.phase(again).served)
        assert self.phase(again).served == served
        assert path.read_bytes() == before

    def test_parts_of_its_own_score(self, plant: Plant) -> None:
        """With a personal head: after a round, the next version with the head of that round."""
        job = a_job(
            evaluation=ONLY_TRAIN, learning=Learning(batch_size=4, personal="head"), rounds=9
        )
        agent, versions = joined(plant, job=job)
        self.round(plant, agent, versions, 1)
        agent.until(lambda: self.phase(agent).version == versions.newest.version)
        manifest = versions.architecture.manifest
        mine = current(agent.state / "jobs" / "press" / "home.msgpack", manifest, job)
        assert mine.personal is not None
        expected = personalised(manifest, job, versions.newest.vector, mine)
        assert agent.seat()._work.scorer.version == version_of(expected)
        assert expected.tobytes() != versions.newest.vector.tobytes()
