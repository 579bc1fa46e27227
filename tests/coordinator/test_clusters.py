# SPDX-License-Identifier: Apache-2.0
"""Clusters on a running coordinator: jobs by tag, and jobs that start from another one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w
from msgspec import structs
from tests.coordinator.test_daemon import Plant

from fedmill_coordinator.registry.newest import Versions
from fedmill_coordinator.store.records import VersionRecord
from fedmill_shared.errors import JobError, StoreError
from fedmill_shared.job import Job, Window
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.messages import Join, UpdateOffer
from fedmill_shared.schema import schema_hash

pytestmark = pytest.mark.usefixtures("exported_once")
Make = Callable[..., Job]


class Federation(Plant):
    """A plant whose coordinator can be given other jobs."""

    def restart_with(self, *jobs: Job) -> None:
        """The coordinator is stopped and started with these job files."""
        self.link.stop()
        folder = Path(self.config.coordinator.state)
        paths = []
        for job in jobs:
            paths.append(str(folder / f"{job.name}.toml"))
            Path(paths[-1]).write_text(tomli_w.dumps(msgspec.to_builtins(job)))
        section = structs.replace(self.config.coordinator, jobs=paths)
        self.config = structs.replace(self.config, coordinator=section)
        self.jobs = {job.name: job for job in jobs}
        self.daemon = self.make()
        self.link.start()
        self.work()
        self.meet(*self.jobs)

    def meet(self, *jobs: str) -> None:
        """Agents that were there come again, and are on these jobs and joined them."""
        self.jobs = {name: self.jobs.get(name, next(iter(self.jobs.values()))) for name in jobs}
        for agent in list(self.links):
            self.agent(agent)
            for name in jobs:
                join = Join(job=name, schema=schema_hash(self.jobs[name]), windows={"train": 8})
                self.say(agent, "join", join)

    def play(self, rounds: int, job: str) -> None:
        """So many rounds of a job that runs."""
        for _ in range(rounds):
            for agent in ("a", "b"):
                self.update(agent, job)

    def versions(self, job: str) -> list[VersionRecord]:
        """Versions of a job."""
        return self.store.versions(job)

    def normaliser(self, job: str) -> Any:
        """What a job standardises by."""
        record = self.store.job(job)
        assert record is not None
        return record.normaliser


@pytest.fixture
def federation(tmp_path: Path, tiny_job: Make) -> Federation:
    """A job ``old`` with two versions beside the first."""
    plant = Federation(tmp_path, [tiny_job("old", rounds=9)])
    plant.running("old")
    plant.play(2, "old")
    return plant


class TestStart:
    """`federation.start`."""

    def test_version_0_is_the_newest_of_the_other_job(
        self, federation: Federation, tiny_job: Make
    ) -> None:
        """Bit by bit, and agents are told of nothing but this version."""
        old = tiny_job("old", rounds=9)
        federation.restart_with(old, tiny_job("new", start="old"))
        federation.running("new")
        assert federation.state("new") == ("running", 1)
        [first] = federation.versions("new")
        newest = federation.versions("old")[-1]
        assert newest.number == 2
        assert (first.number, first.version, first.weights) == (0, newest.version, newest.weights)
        assert (first.base, first.delta, first.round) == (None, None, None)
        notices = {notice.job: notice for notice in federation.take("a", "version")}
        assert notices["new"].version == newest.version

    def test_both_go_on_from_there(self, federation: Federation, tiny_job: Make) -> None:
        """Each by itself."""
        old, new = tiny_job("old", rounds=9), tiny_job("new", start="old")
        federation.restart_with(old, new)
        federation.running("new")
        federation.play(1, "new")
        assert [version.number for version in federation.versions("new")] == [0, 1]
        assert [version.number for version in federation.versions("old")] == [0, 1, 2]

    def test_its_standardisation_is_that_of_the_other(
        self, federation: Federation, tiny_job: Make
    ) -> None:
        """The weights expect it; what the agents tell of their windows only says who is there."""
        federation.restart_with(tiny_job("old", rounds=9), tiny_job("new", start="old"))
        assert federation.state("new") == ("waiting", 0)
        federation.running("new")
        assert len(federation.store.moments("new")) == 2
        assert federation.normaliser("new") == federation.normaliser("old")

    def test_agents_see_where_it_starts(self, federation: Federation, tiny_job: Make) -> None:
        """The job that is told is the one in the file."""
        federation.restart_with(tiny_job("old", rounds=9), tiny_job("new", start="old"))
        federation.agent("late")
        told = {notice.job: notice for notice in federation.take("late", "job")}
        assert job_from_canonical(told["new"].text).federation.start == "old"

    def test_the_other_job_may_be_over_and_gone(
        self, federation: Federation, tiny_job: Make
    ) -> None:
        """It is enough that the store knows it."""
        federation.restart_with(tiny_job("new", start="old"))
        federation.running("new")
        assert federation.versions("new")[0].version == federation.versions("old")[-1].version

    def test_after_a_restart_it_is_not_asked_again(
        self, federation: Federation, tiny_job: Make
    ) -> None:
        """What has begun goes on, however the other job went on."""
        old, new = tiny_job("old", rounds=9), tiny_job("new", start="old")
        federation.restart_with(old, new)
        federation.running("new")
        federation.play(1, "old")
        before = federation.versions("new")
        federation.restart_with(old, new)
        assert federation.versions("new") == before
        assert federation.state("new") == ("running", 1)

    def test_killed_between_version_and_state(
        self, federation: Federation, tiny_job: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Version 0 is there and the job does not know it: the other job's next one is another."""
        old, new = tiny_job("old", rounds=9), tiny_job("new", start="old")
        federation.restart_with(old, new)
        create = Versions.create

        def killed(releases: Versions, normaliser: Any) -> None:
            create(releases, normaliser)
            raise StoreError("killed")

        with monkeypatch.context() as patch:
            patch.setattr(Versions, "create", killed)
            federation.running("new")
        [first] = federation.versions("new")
        assert federation.state("new") == ("statistics", 0)
        federation.play(1, "old")
        federation.restart_with(old, new)
        federation.running("new")
        assert federation.state("new") == ("running", 1)
        assert federation.versions("new") == [first]
        assert federation.versions("old")[-1].version != first.version

    def test_a_job_that_does_not_fit(self, federation: Federation, tiny_job: Make) -> None:
        """The coordinator does not start, and nothing of the job is kept."""
        new = structs.replace(tiny_job("new", start="old"), window=Window(length=5))
        with pytest.raises(JobError, match="that job differs in signals, window or labels"):
            federation.restart_with(tiny_job("old", rounds=9), new)
        assert federation.store.job("new") is None

    def test_a_job_that_has_no_version(self, federation: Federation, tiny_job: Make) -> None:
        """Likewise, whichever is named first."""
        jobs = [tiny_job("old", rounds=9), tiny_job("new", start="other"), tiny_job("other")]
        with pytest.raises(JobError, match="this coordinator has no such job"):
            federation.restart_with(*jobs)
        with pytest.raises(JobError, match="that job has no version yet"):
            federation.restart_with(*reversed(jobs))


class TestByTag:
    """`federation.cluster_by`."""

    def test_a_file_becomes_several_jobs(self, tmp_path: Path, tiny_job: Make) -> None:
        """Each is told for itself, with a selector and without a word of clusters."""
        rig = tiny_job("rig", cluster_by="machine", clusters=["pump", "fan"])
        plant = Federation(tmp_path, [rig])
        plant.link.start()
        plant.agent("a")
        notices = plant.take("a", "job")
        told = {notice.job: job_from_canonical(notice.text) for notice in notices}
        assert sorted(told) == ["rig-fan", "rig-pump"]
        assert told["rig-fan"].federation.select == 'machine == "fan"'
        assert all(b"cluster" not in notice.text for notice in notices)
        assert [record.name for record in plant.store.jobs()] == ["rig-fan", "rig-pump"]

    def test_each_has_rounds_of_its_own(self, tmp_path: Path, tiny_job: Make) -> None:
        """What the pumps learn reaches no fan."""
        rig = tiny_job("rig", cluster_by="machine", clusters=["pump", "fan"])
        plant = Federation(tmp_path, [rig])
        plant.meet("rig-pump", "rig-fan")
        plant.running("rig-pump")
        plant.play(1, "rig-pump")
        assert len(plant.store.versions("rig-pump")) == 2
        assert plant.state("rig-pump") == ("running", 2)
        assert (plant.state("rig-fan"), plant.store.versions("rig-fan")) == (("waiting", 0), [])

    def test_another_cluster_is_another_job(self, tmp_path: Path, tiny_job: Make) -> None:
        """One may be added to a file whose jobs run; a restart takes them up."""
        rig = tiny_job("rig", cluster_by="machine", clusters=["pump"])
        plant = Federation(tmp_path, [rig])
        more = structs.replace(rig.federation, clusters=["pump", "fan"])
        plant.restart_with(structs.replace(rig, federation=more))
        assert [record.name for record in plant.store.jobs()] == ["rig-fan", "rig-pump"]
        changed = structs.replace(more, rounds=99)
        with pytest.raises(JobError, match=r"rig\.toml: job 'rig-pump' .* changed: federation"):
            plant.restart_with(structs.replace(rig, federation=changed))

    def test_clusters_may_start_from_what_was_common(
        self, federation: Federation, tiny_job: Make
    ) -> None:
        """All of them from the same version."""
        rig = tiny_job("rig", cluster_by="machine", clusters=["pump", "fan"], start="old")
        federation.restart_with(rig)
        federation.jobs = dict.fromkeys(("rig-pump", "rig-fan"), rig)
        for name in federation.jobs:
            federation.running(name)
            [first] = federation.versions(name)
            assert first.version == federation.versions("old")[-1].version


class TestFrames:
    """Updates of the last round outlive a pruning, so that they can be looked at."""

    def test_the_last_round_can_be_looked_at_at_any_time(
        self, federation: Federation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Although every version is followed by a pruning here."""
        monkeypatch.setattr("fedmill_coordinator.registry.newest.PRUNE_EVERY", 1)
        offers: list[UpdateOffer] = [federation.update(agent, "old") for agent in ("a", "b")]
        blobs = federation.daemon._services.blobs
        assert all(blobs.has(offer.sha256) for offer in offers)
        later = [federation.update(agent, "old") for agent in ("a", "b")]
        assert all(blobs.has(offer.sha256) for offer in later)
        assert not any(blobs.has(offer.sha256) for offer in offers)
