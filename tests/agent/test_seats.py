# SPDX-License-Identifier: Apache-2.0
"""Which jobs an agent has a seat in, as its coordinator sees it."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from tests.agent.kit import (
    LENGTH,
    Versions,
    a_job,
)
from tests.agent.whole import JOB, ONLY_TRAIN, Agent, Plant, joined, open_round

from fedmill_agent import seats
from fedmill_agent.announcements import STRANGERS_LIMIT
from fedmill_agent.places import windows_file
from fedmill_agent.seats import Seats
from fedmill_agent.sources.base import Samples
from fedmill_agent.sources.runner import SourceEvent
from fedmill_agent.streams import Fed
from fedmill_agent.training import protocol
from fedmill_agent.training.child import TrainerAnswered, TrainerDied
from fedmill_shared.audit import FILE
from fedmill_shared.audit.verifying import entries
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.job_check import canonical
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.messages import JobNotice, Receipt, RoundNotice
from fedmill_shared.schema import schema_hash


class TestRecord:
    def test_what_is_offered_is_on_record(self, plant: Plant) -> None:
        """Once for each text, by the digests of both; a job that is only told again is not."""
        agent = plant.agent()
        changed = a_job(min_examples=3)
        for job in (JOB, JOB, changed):
            plant.coordinator.offer(job)
            agent.run(20)
        told = [each for each in entries(agent.state / FILE) if each.what == "job.offered"]
        first, second = (sha256(canonical(job)) for job in (JOB, changed))
        assert [(each.who, each.subject, each.before, each.after) for each in told] == [
            ("coordinator", "press", "", first),
            ("coordinator", "press", first, second),
        ]


class TestRefuse:
    def refusal(self, plant: Plant, agent: Agent, job: Job = JOB) -> Any:
        """The first refusal; there is no second one while nothing changes."""
        plant.coordinator.offer(job)
        agent.until(lambda: plant.said("refusal"))
        agent.run(100)
        assert agent.phase(job.name) == "refused"
        [refusal] = plant.said("refusal")
        [told] = agent.journal.of("job.refused")
        assert told["error"] == refusal.text
        assert plant.said("join") == []
        return refusal

    def test_a_unit_that_cannot_be_converted(self, plant: Plant) -> None:
        """Before anything is read."""
        source = structs.replace(plant.recording(), units={"vibration": "degC"})
        refusal = self.refusal(plant, plant.agent(source))
        assert refusal.reason == "SchemaError"
        assert "degC" in refusal.text

    def test_a_signal_that_the_source_lacks(self, plant: Plant) -> None:
        """The recording has no such column: no source works."""
        source = structs.replace(plant.recording(), tags={"vibration": "current"})
        refusal = self.refusal(plant, plant.agent(source))
        assert refusal.reason == "DataError"
        assert "current" in refusal.text

    def test_no_sources(self, plant: Plant) -> None:
        """There is nothing to read."""
        plant.recording()
        agent = Agent(plant.folder, plant.coordinator, [])
        agent.link.start()
        plant._agents.append(agent)
        assert "no [[sources]]" in self.refusal(plant, agent).text

    def test_recordings_without_a_value(self, plant: Plant) -> None:
        """They were read, and every window was bad."""
        agent = plant.agent(plant.recording(good=["nan"] * 24))
        assert "no training window" in self.refusal(plant, agent).text
        phase = agent.word().jobs["press"]
        assert phase.windows_bad == 3
        assert phase.faults == {"vibration: missing": 3}

    def test_recordings_without_a_label(self, plant: Plant) -> None:
        """The windows are there, and nobody can learn from them."""
        source = structs.replace(plant.recording(), label_column="")
        refusal = self.refusal(plant, plant.agent(source))
        assert "12 training windows" in refusal.text
        assert "no label" in refusal.text

    def test_a_text_that_is_no_job(self, plant: Plant) -> None:
        """Of another fedmill, or damaged; another job's text is not taken for this one's."""
        agent = plant.agent()
        for text in (b"not json", b'{"job": {}}', canonical(a_job("drill"))):
            plant.coordinator.tell("job", JobNotice(job="press", text=text, state="waiting"))
        agent.until(lambda: len(plant.said("refusal")) == 3)
        assert {refusal.reason for refusal in plant.said("refusal")} == {"JobError"}
        assert not (agent.state / "jobs" / "drill").exists()

    def test_another_protocol(self, plant: Plant) -> None:
        """A coordinator of the future is told so, and nothing of it is used."""
        agent = plant.agent()
        notice = JobNotice(job="press", text=canonical(JOB), state="waiting", protocol=9)
        plant.coordinator.tell("job", notice)
        agent.until(lambda: plant.said("refusal"))
        assert plant.said("refusal")[0].reason == "ProtocolError"
        assert agent.phase() == ""

    def test_another_protocol_for_a_job_that_is_served(self, plant: Plant) -> None:
        """The coordinator was upgraded too far: it is told, and scoring goes on."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        notice = JobNotice(job="press", text=canonical(JOB), state="running", protocol=3, newest=4)
        plant.coordinator.tell("job", notice)
        agent.until(lambda: plant.said("refusal"))
        [refusal] = plant.said("refusal")
        assert refusal.reason == "ProtocolError"
        assert "the coordinator speaks protocol 3 to 4, this side 1 to 2" in refusal.text
        assert agent.phase() == "joined"

    def test_is_told_again_when_asked_again(self, plant: Plant) -> None:
        """After a reconnection, and when the coordinator announces the job again."""
        agent = plant.agent(structs.replace(plant.recording(), units={"vibration": "degC"}))
        self.refusal(plant, agent)
        agent.link.vanish()
        agent.link.start()
        agent.run()
        assert len(plant.said("refusal")) == 3
        assert len(agent.journal.of("job.refused")) == 1


class TestIgnore:
    def test_jobs_that_are_not_ours(self, plant: Plant) -> None:
        """An agent with a list of jobs has no seat in others, also not after a restart."""
        agent = plant.agent(jobs=["press"])
        plant.coordinator.offer(a_job("drill"))
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        assert agent.phase("drill") == ""
        plant.stop(agent)
        again = plant.agent(jobs=["drill"], online=False)
        assert again.phase() == ""

    @pytest.mark.parametrize("kind", ["job", "version", "round", "block", "weather"])
    def test_garbage_is_only_logged(self, plant: Plant, kind: str) -> None:
        """Whatever the broker delivers, the agent works on."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        garbage = [b"", b"garbage", b"\xc1", b"\x91" * 5000, b"\x81\xa3job\xa5press"]
        for payload in garbage:
            plant.coordinator.tell(kind, payload, retain=False)
        agent.until(lambda: len(agent.journal.of("message.refused")) == len(garbage))
        assert agent.phase() == "joined"

    def test_a_blob_that_arrives_damaged(self, plant: Plant) -> None:
        """It is told, and asked for again."""
        agent, versions = plant.agent(), Versions(JOB)
        plant.coordinator.versions = {"press": versions}
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.coordinator.deaf = True
        notice = versions.notice()
        plant.coordinator.tell("version", notice)
        size = notice.snapshot.size
        head = struct.Struct("<4s32sIIQI").pack(
            b"FMB1", bytes.fromhex(notice.version), 0, 1, size, zlib.crc32(bytes(size))
        )
        plant.coordinator.tell("block", head + bytes(size), retain=False)
        agent.until(lambda: agent.journal.of("block.refused"))
        plant.coordinator.deaf = False
        agent.until(lambda: agent.word().jobs["press"].version == versions.newest.version)

    def test_a_job_that_was_refused_gets_nothing(self, plant: Plant) -> None:
        """Its versions, rounds, blocks and receipts pass by."""
        agent, versions = plant.agent(), Versions(JOB)
        plant.coordinator.versions = {"press": versions}
        plant.coordinator.tell("job", JobNotice(job="press", text=b"", state="running"))
        plant.coordinator.tell("version", versions.notice())
        plant.coordinator.tell("round", RoundNotice(job="press", round=1))
        plant.coordinator.answer(Receipt(job="press", round=1, sha256="a" * 64, fate="late"))
        for block in blocks_of(b"blob"):
            plant.coordinator.tell("block", block, retain=False)
        agent.until(lambda: plant.said("refusal"))
        agent.trainer.sink(TrainerAnswered(protocol.Ready(number=1)))
        agent.trainer.sink(TrainerDied(1, (1,)))
        agent.run()
        assert plant.said("request") == []
        assert agent.journal.of("event.failed") == agent.journal.of("message.refused") == []

    def test_foreign_topics_are_only_logged(self, plant: Plant) -> None:
        """Of another program, or of another version."""
        agent = plant.agent()
        for topic in ("fedmill/v1/a/down/reboot", "fedmill/v1/all/job"):
            plant.coordinator.link.publish(topic, b"x")
        agent.until(lambda: len(agent.journal.of("message.refused")) == 2)

    def test_notices_of_jobs_that_never_come(self, plant: Plant) -> None:
        """The newest few are kept, and a job that comes later finds its own."""
        versions = Versions(JOB)
        plant.coordinator.versions = {"press": versions}
        agent = plant.agent()
        for number in range(40):
            plant.coordinator.tell("round", RoundNotice(job=f"j-{number}", round=1), retain=False)
        base = versions.newest.version
        plant.coordinator.tell("version", versions.notice(), retain=False)
        plant.coordinator.tell("round", RoundNotice(job="press", round=1, base=base), retain=False)
        agent.until(lambda: ("press", "round") in agent.daemon._seats._heard._newest)
        assert len({job for job, _ in agent.daemon._seats._heard._newest}) == STRANGERS_LIMIT
        plant.coordinator.offer(JOB, state="running")
        agent.until(lambda: plant.said("update"))
        for number in range(40):
            plant.coordinator.tell("round", RoundNotice(job=f"k-{number}", round=1), retain=False)
        agent.until(lambda: ("k-39", "round") in agent.daemon._seats._heard._newest)
        assert ("press", "round") in agent.daemon._seats._heard._newest
        assert len({job for job, _ in agent.daemon._seats._heard._newest}) == STRANGERS_LIMIT + 1

    def test_messages_of_unknown_jobs(self, plant: Plant) -> None:
        """They may belong to another fleet."""
        agent = plant.agent()
        receipt = Receipt(job="mill", round=1, sha256="a" * 64, fate="included")
        plant.coordinator.answer(receipt)
        plant.coordinator.tell("round", RoundNotice(job="mill", round=1))
        agent.run()
        assert agent.journal.of("message.refused") == agent.journal.of("event.failed") == []


class TestRestart:
    def test_offline_it_goes_on_scoring(self, plant: Plant) -> None:
        """Job, windows and model are on disk: no broker is needed."""
        live = structs.replace(plant.recording("live"), split="live")
        agent, versions = joined(plant, plant.recording(), live)
        plant.stop(agent)
        again = plant.agent(plant.recording(), live, online=False)
        again.until(lambda: again.scored() == 24)
        assert again.word().jobs["press"].version == versions.newest.version
        again.until(lambda: again.phase() == "joined")

    def test_a_job_file_that_cannot_be_read(self, plant: Plant) -> None:
        """It is told, and the broker's notice brings the job again."""
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.stop(agent)
        path = agent.state / "jobs" / "press" / "job.json"
        path.write_bytes(b"rust")
        again = plant.agent()
        again.until(lambda: again.phase() == "joined")
        assert again.journal.of("job.refused")[0]["kind"] == "JobError"
        path.unlink()
        path.mkdir()
        plant.stop(again)
        third = plant.agent(online=False)
        assert len(third.journal.of("job.unreadable")) == 1

    @pytest.mark.parametrize("asked_at", [0, 1])
    def test_asked_to_end_it_opens_no_more_jobs(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch, asked_at: int
    ) -> None:
        """To read their stores takes minutes, and the service manager waits half of one."""
        agent = plant.agent()
        for name in ("anvil", "press"):
            plant.coordinator.offer(a_job(name=name))
            agent.until(lambda name=name: agent.phase(name) == "joined")
        plant.stop(agent)
        with monkeypatch.context() as patch:
            patch.setattr(Seats, "resume", lambda _: None)
            again = plant.agent(online=False)
        daemon, opened = again.daemon, []

        def opening() -> None:
            opened.append(1)
            daemon.stop()

        monkeypatch.setattr(daemon._seats, "_opening", opening)
        if asked_at == 0:
            daemon.stop()
        plant._agents.remove(again)
        daemon.run()
        assert len(opened) == asked_at
        assert list(daemon._seats._seats) == ["anvil"][:asked_at]
        assert again.journal.of("agent.stopped")
        assert not again.journal.of("event.failed")

    def test_an_update_is_delivered_by_the_next_process(self, plant: Plant) -> None:
        """It waits on disk; it is not trained again."""
        agent, versions = joined(plant)
        open_round(plant, versions)
        agent.until(lambda: plant.said("update"))
        [offer] = plant.said("update")
        plant.stop(agent)
        plant.coordinator.heard.clear()
        again = plant.agent()
        plant.coordinator.frames.clear()
        again.until(lambda: plant.coordinator.frames)
        assert plant.said("update")[0] == structs.replace(offer, offered_again=True)
        assert list(plant.coordinator.frames) == [offer.sha256]
        again.until(lambda: again.phase() == "joined")
        again.run()
        assert again.trainer.asked(protocol.Train) == []


class TestChange:
    def test_another_window_starts_another_store(self, plant: Plant) -> None:
        """The old windows stay for the old job; the old model is not used for the new one."""
        agent, versions = joined(plant)
        longer = a_job(length=12, evaluation=ONLY_TRAIN)
        plant.coordinator.offer(longer)
        agent.until(lambda: len(plant.said("join")) == 2)
        assert plant.said("join")[-1].windows["train"] == 8
        assert plant.said("join")[-1].schema == schema_hash(longer)
        assert plant.said("refusal") == []
        assert agent.word().jobs["press"].version == ""
        plant.coordinator.offer(JOB, state="running")
        agent.until(lambda: len(plant.said("join")) == 3)
        assert agent.word().jobs["press"].version == versions.newest.version

    def test_what_the_old_sources_still_deliver_is_dropped(self, plant: Plant) -> None:
        """What a source said before the job was changed is not taken for what it says now."""
        stream = structs.replace(plant.recording("stream"), repeat=True, split="train")
        agent = plant.agent(stream)
        for length in (8, 12, 8):
            job = a_job(length=length, evaluation=ONLY_TRAIN)
            plant.coordinator.offer(job)
            agent.until(
                lambda j=job: any(join.schema == schema_hash(j) for join in plant.said("join"))
            )
        assert agent.journal.of("windows.lost") == agent.journal.of("source.failed") == []
        seat = agent.seat()
        late = Samples("late", "late", 0, 1, np.ones((1, LENGTH)))
        for ticket in (
            seat._work.streams.ticket("stream") - 1,
            seat._work.streams.ticket("stream"),
        ):
            assert "late" not in seat._work.intake._feeds["stream"].cutter._windower._runs
            agent.daemon._take(Fed("press", ticket, SourceEvent("stream", late)))
        assert "late" in seat._work.intake._feeds["stream"].cutter._windower._runs

    def test_another_learning_rate_keeps_the_windows(self, plant: Plant) -> None:
        """And the model: the schema is the same."""
        agent, versions = joined(plant)
        changed = structs.replace(JOB, learning=structs.replace(JOB.learning, epochs=2))
        plant.coordinator.offer(changed, state="running")
        agent.until(lambda: len(plant.said("join")) == 2)
        assert agent.word().jobs["press"].version == versions.newest.version
        assert windows_file(str(agent.state), JOB) == windows_file(str(agent.state), changed)


class TestLimit:
    def test_a_stranger_cannot_fill_the_memory_with_jobs(
        self, plant: Plant, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who has a seat keeps it, and hears what is new of its job."""
        monkeypatch.setattr(seats, "SEAT_LIMIT", 1)
        agent = plant.agent()
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
        plant.coordinator.offer(a_job("drill", evaluation=ONLY_TRAIN))
        agent.run()
        assert set(agent.word().jobs) == {"press"}
        changed = structs.replace(JOB, learning=structs.replace(JOB.learning, epochs=2))
        plant.coordinator.offer(changed)
        agent.until(lambda: agent.seat().text == canonical(changed))

    def test_a_list_of_jobs_has_none(self, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who wrote it knows how many they are."""
        monkeypatch.setattr(seats, "SEAT_LIMIT", 0)
        agent = plant.agent(jobs=["press"])
        plant.coordinator.offer(JOB)
        agent.until(lambda: agent.phase() == "joined")
