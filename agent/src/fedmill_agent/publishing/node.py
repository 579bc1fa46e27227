# SPDX-License-Identifier: Apache-2.0
"""An edge node of Sparkplug B with the newest prediction of each job (Sparkplug 3.0, 5.4 to 5.9).

It has a session of its own, because its will is its death certificate. It is born with all metrics,
tells those that changed, and is born again where a host asks for that or where jobs come or go, or
predict something else.
What is told is the newest; what came between two messages is not.
"""

import itertools
import threading
from collections.abc import Callable, Sequence

from fedmill_agent.config import BrokerSection
from fedmill_agent.inference.options import SparkplugSection
from fedmill_agent.publishing.metrics import metrics
from fedmill_agent.publishing.outlet import Outlet
from fedmill_agent.sources.sparkplug import payload
from fedmill_agent.sources.sparkplug.topics import NAMESPACE, command_of
from fedmill_agent.sources.sparkplug.wire import Malformed
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.threaded import Threaded
from fedmill_shared.clock import Clock
from fedmill_shared.errors import SourceError
from fedmill_shared.job import Job
from fedmill_shared.link.backoff import Backoff, Jitter, full_jitter
from fedmill_shared.link.base import Message
from fedmill_shared.link.plant import PlantBroker, PlantLink
from fedmill_shared.log import Logger

TURN_SECONDS = 0.2
LARGEST_COMMAND = 1 << 16

Seen = dict[str, tuple[Job, Prediction | None]]


class SparkplugNode(Threaded):
    """Owns the node's session; any thread may ``show``."""

    def __init__(
        self,
        agent: str,
        broker: BrokerSection,
        section: SparkplugSection,
        *,
        clock: Clock,
        log: Logger,
        jitter: Jitter = full_jitter,
    ) -> None:
        """Nothing is sent before ``start``."""
        super().__init__("sparkplug")
        self._agent = agent
        self._broker = broker
        self._node = section.group, section.node
        self._clock = clock
        self._log = log
        self._backoff = Backoff(jitter)
        self._lock = threading.Lock()
        self._shown: Seen = {}
        self._changed: set[str] = set()
        self._births = itertools.count()
        self._complained = False

    def show(self, job: Job, said: Prediction | None) -> None:
        """The newest prediction of ``job``; None: there is none yet."""
        name = job.job.name
        with self._lock:
            self._shown[name] = job, said
            self._changed.add(name)

    def hide(self, job: str) -> None:
        """There is nothing more to tell of ``job``."""
        with self._lock:
            self._shown.pop(job, None)
            self._changed.discard(job)

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = self._clock.monotonic()
            try:
                self._serve()
            except SourceError as error:
                if not self._complained:
                    remedy = error.remedy or "the node keeps trying"
                    self._log.error("sparkplug.lost", error=error.message, remedy=remedy)
                self._complained = True
            lasted = self._clock.monotonic() - began
            self._stopped.wait(self._backoff.wait(lasted, taken_over=False))

    def _serve(self) -> None:
        """One session, until it is lost or the node is stopped."""
        bd_seq = next(self._births) % 256
        death = Message(self._topic("NDEATH"), payload.node_death(bd_seq))
        link = PlantLink(
            PlantBroker(
                host=self._broker.host,
                port=self._broker.port,
                client_id=f"{self._agent}-sparkplug",
                largest_packet=LARGEST_COMMAND,
                will=death,
            ),
            self._clock,
        )
        try:
            link.open([command_of(self._node)])
            self._log.info("sparkplug.connected", group=self._node[0], node=self._node[1])
            self._complained = False
            _Session(link, self._topic, bd_seq, self._clock).talk(self._take, self._stopped)
        finally:
            link.close(death)

    def _take(self) -> tuple[Seen, set[str]]:
        """All that is shown, and what has changed since the last call."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return dict(self._shown), changed

    def _topic(self, kind: str) -> str:
        group, node = self._node
        return f"{NAMESPACE}/{group}/{kind}/{node}"


class _Session:
    """One connection: its births and its numbers."""

    def __init__(
        self, link: PlantLink, topic: Callable[[str], str], bd_seq: int, clock: Clock
    ) -> None:
        self._link = link
        self._topic = topic
        self._bd_seq = bd_seq
        self._clock = clock
        self._numbers = itertools.count()
        self._born: dict[str, str] | None = None

    def talk(self, take: Callable[[], tuple[Seen, set[str]]], stopped: threading.Event) -> None:
        """Tell what ``take`` gives until ``stopped``.

        Raises:
            SourceError: the connection is lost.
        """
        while not stopped.is_set():
            shown, changed = take()
            if self._born != _tasks(shown) or self._asked():
                self._be_born(shown)
            elif changed:
                self._tell([shown[name] for name in sorted(changed)])

    def _asked(self) -> bool:
        """Whether a host asks for the birth; waits a moment for that."""
        asked = False
        for message in self._link.read(TURN_SECONDS):
            try:
                told = payload.decode(message.payload)
            except Malformed:
                continue
            asked = asked or any(each.name == payload.REBIRTH for each in told.metrics)
        return asked

    def _be_born(self, shown: Seen) -> None:
        self._numbers = itertools.count()
        self._born = _tasks(shown)
        now_ns = self._clock.now_ns()
        told = [each for job, said in shown.values() for each in metrics(job, said, now_ns)]
        body = payload.node_birth(
            told, time_ms=now_ns // 10**6, seq=self._next(), bd_seq=self._bd_seq
        )
        self._link.publish(self._topic("NBIRTH"), body)

    def _tell(self, changed: Sequence[tuple[Job, Prediction | None]]) -> None:
        now_ns = self._clock.now_ns()
        told = [each for job, said in changed for each in metrics(job, said, now_ns)]
        body = payload.data(told, time_ms=now_ns // 10**6, seq=self._next())
        self._link.publish(self._topic("NDATA"), body)

    def _next(self) -> int:
        return next(self._numbers) % 256


def _tasks(shown: Seen) -> dict[str, str]:
    """What decides which metrics there are: the task of each job."""
    return {name: job.job.task for name, (job, _) in shown.items()}


class Shown:
    """Shows what one job's model said last."""

    def __init__(
        self,
        job: Job,
        node: SparkplugNode,
        outlet: Outlet,
        newest: Callable[[], Prediction | None],
    ) -> None:
        """Announce the job; ``newest`` tells its last prediction."""
        self._job = job
        self._node = node
        self._outlet = outlet
        self._newest = newest
        self._seen: Prediction | None = None
        node.show(job, None)
        outlet.join(self, sends=False)

    def pump(self) -> None:
        """Show what is new."""
        newest = self._newest()
        if newest is not self._seen:
            self._seen = newest
            self._node.show(self._job, newest)

    def tick(self) -> None:
        """Nothing is due."""

    def close(self) -> None:
        """The job is gone."""
        self._outlet.leave(self)
        self._node.hide(self._job.job.name)
