# SPDX-License-Identifier: Apache-2.0
"""A gateway that follows and serves versions of the tiny job, and windows that come to it."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from tests.agent.kit import LENGTH, Journal, Versions
from tests.records import Records

from fedmill_agent.background import Background
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.installing.around import Around, Refit
from fedmill_agent.inference.installing.held_out import HeldOut
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.store.predictions import Prediction
from fedmill_agent.store.windows import WindowStore
from fedmill_shared.clock import ManualClock
from fedmill_shared.job import Job
from fedmill_shared.job import Serving as Wanted
from fedmill_shared.link.blocks import parse_block
from fedmill_shared.messages import BlobRequest, InstallReport, ReleaseNotice, VersionNotice
from fedmill_shared.models.manifest import vector_bytes, version_of
from fedmill_shared.signals.windows import Window
from fedmill_shared.tensors import pack_tensor, unpack_tensor

SECOND = 10**9


class Later(Background):
    """The background, whose work is done when a test says so; its results come at once."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[Callable[[], None]] = deque()

    def submit(self, *work: Any) -> None:
        """Put it down."""
        self.waiting.append(lambda: Background.submit(self, *work))

    def work(self) -> None:
        """Do one piece, and not what follows from it."""
        self.waiting.popleft()()

    def finish(self) -> None:
        """Do all, and what follows."""
        while self.waiting:
            self.work()


class Rig:
    """A deployment of the tiny job on a folder."""

    def __init__(
        self,
        folder: Path,
        versions: Versions | None = None,
        *,
        job: Job | None = None,
        background: Background | None = None,
        disk: Background | None = None,
        clock: ManualClock | None = None,
        **serving: Any,
    ) -> None:
        """``serving`` are fields of the job's section; its versions are those of the plain job."""
        self.folder = folder
        self.versions = versions or Versions()
        self.job = job or structs.replace(self.versions.job, serving=Wanted(**serving))
        self.clock = clock or ManualClock()
        self.journal = Journal()
        self.audit = Records()
        self.asked: list[BlobRequest] = []
        self.hurried = 0
        self.windows = 0
        self.predictions: list[Prediction] = []
        self.background = background or Background()
        self.disk = disk or Background()
        self.refit: Refit | None = None
        self.start()

    def start(self) -> None:
        """A new process on the same folder."""
        self.asked.clear()
        self.folder.mkdir(exist_ok=True, parents=True)
        self.shelf = VersionShelf(self.folder / "versions")
        self.scorer = Scorer(self.clock, self.journal)
        self.deployment = Deployment(
            self.shelf,
            self.scorer,
            Serving(self.folder, self.job, self.journal),
            Around(
                self.job,
                self.clock,
                self.journal,
                background=self.background,
                disk=self.disk,
                held_out=HeldOut(self.job, self.folder / "windows.sqlite"),
                changed=self._hurry,
                refit=self.refit,
                audit=self.audit,
            ),
            request=self.asked.append,
        )
        self.deployment.resume()

    def _hurry(self) -> None:
        self.hurried += 1

    @property
    def installer(self) -> Any:
        """What decides what scores."""
        return self.deployment.installer

    @property
    def report(self) -> InstallReport:
        """What the coordinator hears."""
        report = self.installer.report()
        assert report is not None
        return report

    @property
    def told(self) -> tuple[str, str]:
        """State and gate."""
        return self.report.state, self.report.gate

    def states(self) -> list[str]:
        """States that were gone through since the last call."""
        found = [
            fields["state"] for event, fields in self.journal.entries if event[:8] == "install."
        ]
        self.journal.entries.clear()
        return found

    def answer(self) -> None:
        """The coordinator answers every question, and those that follow."""
        while self.asked:
            for block in self.versions.blocks(self.asked.pop(0)):
                self.deployment.receive(parse_block(block))

    def follow(self, number: int = -1, **fields: Any) -> VersionNotice:
        """A version comes; with ``serve`` it is to score as well."""
        notice = structs.replace(self.versions.notice(number), **fields)
        self.deployment.announce(notice, retained=True)
        self.answer()
        return notice

    def release(self, notice: VersionNotice, number: int = 1, **fields: Any) -> None:
        """A release that is open to this agent comes."""
        release = ReleaseNotice(job="press", release=number, notice=notice, **fields)
        self.deployment.release(release, retained=True)
        self.answer()

    def version(self, vector: np.ndarray, number: int = 1, **fields: Any) -> VersionNotice:
        """The announcement of a version with these weights, whatever they are worth."""
        architecture = self.versions.architecture
        architecture.model.load(vector)
        outputs = architecture.model.predict(unpack_tensor(architecture.canary))
        notice = structs.replace(
            self.versions.notice(0),
            number=number,
            version=version_of(vector),
            snapshot=self.versions.put(vector_bytes(vector)),
            canary_outputs=pack_tensor(outputs),
        )
        return structs.replace(notice, **fields)

    def live(self, count: int = 1, *, seed: int | None = None) -> list[Prediction]:
        """Windows come, one by one, and are scored; none is dropped."""
        found: list[Prediction] = []
        for _ in range(count):
            self.windows += 1
            values = np.random.default_rng(self.windows if seed is None else seed).normal(
                0, 1, (1, LENGTH)
            )
            window = Window("r", "u", 0, self.windows, values.astype(np.float32), 1.0, 0)
            found += self.scorer.score([window])
        assert len(found) in (0, count)
        self.predictions += found
        return found

    def scores_with(self, notice: VersionNotice) -> bool:
        """Whether it is this version that scores, and says so."""
        served = self.deployment.served
        same = served is not None and served.version == notice.version
        assert same == (self.scorer.version == notice.version)
        assert same == (self.installer.report() is None or self.report.serving == notice.version)
        return same

    def hold_out(self, vector: np.ndarray, count: int = 30, *, right: float = 1.0) -> None:
        """Keep ``count`` validation windows whose truth is what ``vector`` says of most of them."""
        generator = np.random.default_rng(5)
        values = generator.normal(0, 2, (count, 1, LENGTH)).astype(np.float32)
        model = self.versions.architecture.model
        model.load(vector)
        said = model.predict(values).argmax(1)
        wrong = generator.random(count) > right
        with WindowStore(
            self.folder / "windows.sqlite", clock=self.clock, max_bytes=10**8, max_age_seconds=1e9
        ) as store:
            windows = [
                Window(f"run-{i}", "u", i * SECOND, i * SECOND + 1, each, 1.0, 0)
                for i, each in enumerate(values)
            ]
            store.add(windows, "validation")
            classes = self.job.labels.classes
            store.add_labels(
                [
                    label(window, classes[int(k) ^ int(bad)])
                    for window, k, bad in zip(windows, said, wrong, strict=True)
                ]
            )


def label(window: Window, text: str) -> LabelInterval:
    """The class of a window."""
    return LabelInterval(window.run, window.start_ns, window.end_ns, text)


def learned(versions: Versions, seed: int, scale: float = 0.5) -> np.ndarray:
    """Weights that have nothing to do with others, and both classes in what they say."""
    vector = versions.made[0].vector.copy()
    size = versions.architecture.learned
    vector[:size] = np.random.default_rng(seed).normal(0, scale, size)
    return vector


def near(vector: np.ndarray, seed: int = 0) -> np.ndarray:
    """Almost the same weights."""
    noise = np.random.default_rng(seed).normal(0, 1e-4, len(vector))
    return (vector + noise).astype(np.float32)
