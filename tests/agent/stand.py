# SPDX-License-Identifier: Apache-2.0
"""One agent's part in one job, with a trainer that answers when told to and versions by number."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tests.agent.kit import Journal, a_job

from fedmill_agent.participation import Participation
from fedmill_agent.ports import Ports
from fedmill_agent.residual import read_residual
from fedmill_agent.training import protocol
from fedmill_shared.clock import ManualClock
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.feedback import carry, compensate
from fedmill_shared.codec.frame import FrameHeader, decode_frame, encode_frame, prefix
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.job_check import canonical
from fedmill_shared.messages import BlobName, Receipt, RoundNotice, UpdateOffer, VersionNotice
from fedmill_shared.metrics import of_classes
from fedmill_shared.models.manifest import Manifest, Tensor
from fedmill_shared.protocol import NEWEST
from fedmill_shared.signals.moments import collect

ELEMENTS = 24
MANIFEST = Manifest((Tensor("head.weight", (ELEMENTS,), 0, "head"),))
JOB = a_job()
STATISTIC = of_classes(np.eye(2, dtype=np.float32), np.array([0, 1]))
MOMENTS = collect(np.ones((2, 1, 4), np.float32), [0], [], [], None)


def version(number: int) -> str:
    """The digest of a version."""
    return sha256(f"version {number}".encode())


def notice_of(number: int, *, evaluate: bool = False) -> VersionNotice:
    """A version's announcement."""
    blob = BlobName(sha256=sha256(b""), size=0)
    return VersionNotice(
        job="press",
        number=number,
        version=version(number),
        manifest=blob,
        template=blob,
        canary_inputs=blob,
        canary_outputs=b"",
        snapshot=blob,
        evaluate=evaluate,
    )


def raw(round_: int) -> np.ndarray:
    """What training on the agent's windows gives in a round."""
    return np.random.default_rng(round_).normal(0, 1, ELEMENTS).astype(np.float32)


class Deployment:
    """Stands in for the versions of an agent."""

    followed: VersionNotice | None = None
    refreshed = 0
    late: list[Callable[[], None]] | None = None

    @property
    def served(self) -> VersionNotice | None:
        """What is followed is served."""
        return self.followed

    def __init__(self) -> None:
        self.serving = SimpleNamespace(choice=None, changed=lambda: None)

    def refresh(self, then: Callable[[], None] = lambda: None) -> None:
        """What scores is made anew: at once, or when a test calls what is ``late``."""
        self.refreshed += 1
        if self.late is None:
            then()
        else:
            self.late.append(then)

    def canary_path(self) -> str:
        """Another file that nobody reads."""
        return "canary"

    def manifest(self) -> Manifest:
        """One tensor."""
        return MANIFEST

    def regimes(self) -> int:
        """One condition."""
        return 1

    def weights_path(self) -> str:
        """A file that nobody reads."""
        return "weights"


class Agent:
    """A participation that can be started again, and whatever it sent and asked for."""

    def __init__(self, folder: Path, job: Job = JOB) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.job = job
        self.clock = ManualClock()
        self.journal = Journal()
        self.deployment = Deployment()
        self.sent: list[tuple[str, Any]] = []
        self.tasks: list[Any] = []
        self.step: Callable[[], None] = lambda: None
        self.protocol = NEWEST
        self.obstacle = ""
        self.early = np.zeros(ELEMENTS, np.float32)
        self._numbers = itertools.count(1)
        self.start()

    def start(self) -> None:
        """A new process on the same folder: work in hand is gone."""
        self.tasks.clear()
        ports = Ports(
            send=self._send,
            submit=self._submit,
            number=lambda: next(self._numbers),
            obstacle=lambda: self.obstacle,
        )
        self.part = Participation(
            self.job,
            canonical(self.job),
            self.folder,
            self.deployment,
            ports,
            agent="a",
            store=self.folder / "w.sqlite",
            clock=self.clock,
            log=self.journal,
        )
        self.part.delivery.protocol = self.protocol

    def _submit(self, request: protocol.Request) -> None:
        if isinstance(request, protocol.Train):
            self.early = self.held()
        self.tasks.append(request)

    def _send(self, kind: str, message: Any) -> None:
        self.step()
        self.sent.append((kind, message))

    def offers(self) -> list[UpdateOffer]:
        """Updates offered since the last call."""
        found = [message for kind, message in self.sent if kind == "update"]
        self.sent.clear()
        return found

    def install(self, number: int, *, evaluate: bool = False) -> None:
        """A version becomes active."""
        self.deployment.followed = notice_of(number, evaluate=evaluate)
        self.part.installed()

    def open(self, number: int, **fields: Any) -> None:
        """A round opens on the version of the round before."""
        base = version(number - 1)
        self.part.announce_round(RoundNotice(job="press", round=number, base=base, **fields))

    def round(self, number: int, **fields: Any) -> None:
        """The version of the round before, and the round on it."""
        self.install(number - 1, **fields)
        self.open(number)

    def train(self) -> None:
        """The trainer does the training in hand, with the residual of when it got it."""
        [task] = [task for task in self.tasks if isinstance(task, protocol.Train)]
        self.tasks.remove(task)
        self.part.answer(trained(task, residual=self.early))

    def held(self) -> np.ndarray:
        """The residual that the next training would add."""
        path = self.part.delivery.residual.path(prefix(MANIFEST.digest))
        return read_residual(Path(path), ELEMENTS) if path else np.zeros(ELEMENTS, np.float32)


def trained(task: protocol.Train, *, residual: np.ndarray | None = None) -> protocol.Trained:
    """What the worker answers: the same arithmetic on a random delta."""
    delta = raw(task.round)
    if task.residual:
        held = read_residual(Path(task.residual), ELEMENTS) if residual is None else residual
        delta = compensate(delta, held)
    header = FrameHeader(
        content="delta",
        round=task.round,
        base=prefix(task.base),
        schema=prefix(task.schema),
        examples=3,
    )
    frame = encode_frame(CODECS["int8"], delta, header, np.random.default_rng(task.round))
    _, decoded = decode_frame(frame, elements=ELEMENTS)
    return protocol.Trained(
        number=task.number,
        frame=frame,
        residual=carry(delta, decoded).tobytes(),
        examples=3,
        loss=0.5,
        seconds=0.25,
    )


def receipt(offer: UpdateOffer, fate: str, reason: str = "") -> Receipt:
    """The coordinator's answer to an offer."""
    return Receipt(job="press", round=offer.round, sha256=offer.sha256, fate=fate, reason=reason)
