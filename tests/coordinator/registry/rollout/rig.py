# SPDX-License-Identifier: Apache-2.0
"""A roll-out among scripted agents: they hear what is told, and say what a test lets them say."""

from types import SimpleNamespace
from typing import Any

import structlog
from msgspec import Struct, msgpack
from structlog.testing import CapturingLogger
from tests.records import Records

from fedmill_coordinator.fleet import Fleet
from fedmill_coordinator.registry.offers import Offers
from fedmill_coordinator.registry.rollout.rollout import Rollout
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import EvaluationRecord, JobRecord, VersionRecord
from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord
from fedmill_coordinator.trust.vouching import Nobody
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import StoreError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.messages import AgentState, InstallReport, JobPhase, ReleaseNotice
from fedmill_shared.metrics import ClassificationStatistic

NAME = "rig"
START = """\
[job]
name = "rig"
[[signals]]
name = "a"
[labels]
classes = ["good", "bad"]
[federation]
minimum = 1
[rollout]
"""
CAREFUL = 'release = "manual"\nrings = ["canary", "50 %", "fleet"]\n'


def job_of(rollout: str) -> Job:
    """A job with these lines below ``[rollout]``."""
    return decode_job(START + rollout, "rig.toml")


def version(number: int) -> str:
    """Name of version ``number``."""
    return sha256(f"version {number}".encode())


class Blobs:
    """Every blob is there, and 9 bytes long."""

    def put(self, data: bytes) -> str:
        """Name of ``data``."""
        return sha256(data)

    def size(self, name: str) -> int:
        """Bytes of a blob."""
        return 9


class Signing(Nobody):
    """Whoever signs releases: as a rule at once, and not at all while something ``fails``."""

    def __init__(self) -> None:
        self.fails = ""
        self.asked = 0

    def vouch(self, release: ReleaseNotice) -> None:
        """Sign, or say why not."""
        self.asked += 1
        if self.fails:
            raise StoreError(self.fails)


class Rig:
    """A roll-out, its store and clock, and what agents were told and say."""

    def __init__(self, rollout: str = CAREFUL, agents: int = 10, versions: int = 3) -> None:
        self.job = job_of(rollout)
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.audit = Records()
        self.said: list[ReleaseNotice] = []
        self.signing = Signing()
        self.log = CapturingLogger()
        blob, now = sha256(b""), self.clock.now_ns()
        self.store.add_job(
            JobRecord(
                name=NAME,
                text="",
                sha256=blob,
                state="finished",
                created_ns=now,
                updated_ns=now,
                manifest=b"{}",
                template=blob,
                canary_inputs=blob,
            )
        )
        self.newest: VersionRecord | None = None
        for number in range(versions):
            self.make(number)
        self.reports: dict[str, InstallReport] = {}
        self.online: dict[str, dict[str, Any]] = {}
        self.start()
        for number in range(agents):
            self.come(f"gw-{number}")
        self.clock.advance(5)

    def make(self, number: int) -> None:
        """There is another version."""
        self.newest = VersionRecord(
            job=NAME,
            number=number,
            version=version(number),
            base=version(number - 1) if number else None,
            weights=version(number),
            delta=None,
            canary_outputs=b"",
            round=None,
            created_ns=self.clock.now_ns(),
        )
        self.store.add_version(self.newest)

    def evaluate(self, number: int, right: int, *agents: str) -> None:
        """Agents find ``right`` of 10 windows right under version ``number``."""
        statistic = ClassificationStatistic(2, (right, 10 - right, 0, 0), 1.0)
        for agent in agents or ("gw-0", "gw-1"):
            self.store.save_evaluation(
                EvaluationRecord(
                    job=NAME,
                    version=version(number),
                    agent=agent,
                    split="test",
                    statistic=msgpack.encode(statistic),
                    windows=10,
                    received_ns=1,
                )
            )

    def start(self) -> None:
        """A process begins on what is stored, and is connected."""
        self.fleet = Fleet(self.store, self.clock)
        services: Any = SimpleNamespace(
            store=self.store,
            blobs=Blobs(),
            fleet=self.fleet,
            voice=SimpleNamespace(broadcast=self._hear),
            clock=self.clock,
            log=structlog.wrap_logger(self.log, processors=[lambda _l, _m, event: event]),
            audit=self.audit,
            trust=self.signing,
        )
        blobs: Any = services.blobs
        releases: Any = SimpleNamespace(offers=Offers(NAME, blobs, services.voice))
        rig = self

        class Versions:
            offers = releases.offers

            @property
            def newest(self) -> VersionRecord | None:
                return rig.newest

            def promote(self) -> None:
                assert rig.newest is not None
                rig.stable(rig.newest.number)

        made: Any = Versions()
        self.rollout = Rollout(self.job, services, made, lambda: self.fleet.on_job(NAME))
        self.rollout.announce()
        for agent in self.online:
            self._speak(agent)

    def _hear(self, _job: str, kind: str, message: Struct) -> None:
        assert kind == "release"
        assert isinstance(message, ReleaseNotice)
        self.said.append(message)

    def come(self, agent: str, **labels: Any) -> None:
        """An agent connects."""
        self.online[agent] = labels
        self._speak(agent)

    def go(self, agent: str) -> None:
        """An agent is gone, as the broker tells."""
        self.online.pop(agent, None)
        self.fleet.hear(agent, AgentState(online=False))

    def say(self, agent: str, state: str, **fields: Any) -> None:
        """An agent tells how far it is with what it was last told."""
        told = self.said[-1]
        defaults = {"release": told.release, "version": told.notice.version}
        self.reports[agent] = InstallReport(**{**defaults, "state": state, **fields})
        if agent in self.online:
            self._speak(agent)

    def _speak(self, agent: str) -> None:
        phase = JobPhase(phase="joined", install=self.reports.get(agent))
        state = AgentState(online=True, jobs={NAME: phase}, labels=self.online[agent])
        self.fleet.hear(agent, state)

    def wait(self, seconds: float = 0.3) -> None:
        """Time passes."""
        self.clock.advance(seconds)
        self.rollout.step()

    def promote(self, number: int = 2) -> ReleaseRecord:
        """Somebody promotes version ``number``; its first ring opens."""
        found = self.store.version(NAME, version(number))
        assert found is not None
        self.rollout.begin(found, "promoted", by="anna")
        self.wait()
        return self.release

    def asked(self) -> list[str]:
        """Agents that may have the release that was told last."""
        agents = self.said[-1].agents
        return sorted(self.online) if agents is None else agents

    def commit(self) -> None:
        """Whoever may have the release takes it, and says so."""
        for agent in self.asked():
            if agent in self.online:
                self.say(agent, "committed")
        self.wait()

    @property
    def release(self) -> ReleaseRecord:
        """The newest release, as it is stored."""
        return self.store.releases(NAME, last=1)[0]

    @property
    def installs(self) -> dict[str, InstallRecord]:
        """How far agents are with it."""
        return {each.agent: each for each in self.store.installs(NAME, self.release.release)}

    def states(self) -> set[str]:
        """What they last said."""
        return {each.state for each in self.installs.values()}

    def events(self) -> list[str]:
        """What was logged."""
        return [str(call.kwargs["event"]) for call in self.log.calls]

    def alias(self, name: Any) -> str:
        """Version of an alias; empty where there is none."""
        found = self.store.alias(NAME, name)
        return found.version if found is not None else ""

    def stable(self, number: int) -> None:
        """Version ``number`` is what the fleet serves."""
        self.store.set_alias(NAME, "stable", version(number), updated_ns=1)
