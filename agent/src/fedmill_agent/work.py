# SPDX-License-Identifier: Apache-2.0
"""What an agent has for a job that it accepted: store, sources, model and part in the rounds."""

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.cutter import told_faults
from fedmill_agent.equipment import Equipment
from fedmill_agent.inference.assembly import Checked
from fedmill_agent.inference.deployment import Deployment
from fedmill_agent.inference.installing.around import Around
from fedmill_agent.inference.installing.held_out import HeldOut
from fedmill_agent.inference.scorer import Scorer
from fedmill_agent.inference.serving import Serving
from fedmill_agent.inference.shelf import VersionShelf
from fedmill_agent.insight import Parts
from fedmill_agent.intake import Intake
from fedmill_agent.outside import Outside
from fedmill_agent.participation import Participation
from fedmill_agent.places import job_folder, versions_folder, windows_file
from fedmill_agent.ports import Ports
from fedmill_agent.store.bounds import rules_of
from fedmill_agent.store.joining import joining_of
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.streams import Streams, Ways
from fedmill_shared.errors import DataError, FedmillError, JobError, StoreError
from fedmill_shared.files import make_folder, write_atomic
from fedmill_shared.job import Job, Pca
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.log import Logger
from fedmill_shared.schema import schema_hash

RETRY_SECONDS = 10.0


class Work:
    """Owns the parts of a seat that exist once its job is accepted."""

    def __init__(
        self,
        name: str,
        text: bytes,
        outside: Outside,
        log: Logger,
        *,
        arrived: Callable[[], None],
    ) -> None:
        """Accept the job ``name`` with the canonical ``text``; its sources start to deliver.

        ``arrived`` is called when another version is followed.

        Raises:
            FedmillError: the job is wrong, or does not fit this agent.
        """
        self.job: Job = job_from_canonical(text)
        if self.job.name != name:
            raise JobError(f"job {name!r} was announced, its text is of job {self.job.name!r}")
        self.schema = schema_hash(self.job)
        self._outside = outside
        self._log = log
        self._arrived = arrived
        self._reported: Path | None = None
        self._labels_due = 0.0
        self._folder = make_folder(job_folder(outside.config.agent.state, name))
        self.store = self._windows()
        try:
            self._equip(text)
            # Only a job that can be served is taken up again after a restart.
            write_atomic(self._folder / "job.json", text)
            self.equipment.tell()
        except FedmillError:
            self.store.close()
            raise
        self.streams.start()

    def learnable(self) -> int:
        """Training windows with a label for this job, or all where it needs none."""
        windows = self.store.counts()["train"]
        if windows == 0 or not self.job.needs_labels:
            return windows
        return self.store.labelled(self.job.job.task)["train"]

    def nothing_to_learn(self) -> FedmillError:
        """Why there is nothing to train on, or too little."""
        windows = self.store.counts()["train"]
        bad, faults = self.intake.bad_windows, self.intake.faults
        wanted = self.job.federation.min_examples
        if windows and 0 < (labelled := self.learnable()) < wanted:
            return DataError(
                f"agent has {labelled} {self.job.learns_from} for job {self.job.name}, "
                f"{wanted} are wanted",
                remedy="record more, or lower federation.min_examples in the job file",
            )
        unknown = ", ".join(map(repr, sorted(self.intake.refused_labels)[:5]))
        if windows and unknown:
            return DataError(
                f"agent has {windows} training windows for job {self.job.name}, but their label "
                f"is {unknown}",
                remedy=f"classes of the job: {', '.join(self.job.labels.classes)}",
            )
        if windows:
            return DataError(
                f"agent has {windows} training windows for job {self.job.name}, and no label for "
                "any of them",
                remedy="give the source a label, or add labels to the recording",
            )
        return self.intake.failure() or DataError(
            f"agent has no training window for job {self.job.name}: "
            + (f"all {bad} are bad ({told_faults(faults)})" if bad else "no whole window came"),
            remedy="check the sources with `fedmill-agent check`",
        )

    def tick(self) -> None:
        """Do what is due about once a second."""
        self.deployment.tick()
        self.equipment.tick()
        self.participation.tick()
        self._follow_labels()
        if self.store.set_aside != self._reported:
            self._reported = self.store.set_aside
            self._log.error(
                "store.set_aside",
                path=str(self._reported),
                remedy="windows and labels in it no longer count; check the disk",
            )

    def _follow_labels(self) -> None:
        """Take over labels; where that fails it is tried again a little later."""
        desk, now = self._outside.labels, self._outside.clock.monotonic()
        if desk is None or now < self._labels_due:
            return
        try:
            self.intake.follow(desk)
        except StoreError as error:
            self._labels_due = now + RETRY_SECONDS
            self._log.error("labels.delayed", error=str(error))

    def adopt(self, outside: Outside, names: Collection[str]) -> None:
        """Go on with a changed configuration, of which the sources called ``names`` are others.

        Raises:
            SchemaError: one of them does not fit the job; the others are read.
        """
        self._outside = outside
        self.streams.replace(names, outside.config.sources, self._ways())

    def close(self) -> None:
        """Stop the sources and close the store."""
        self.streams.close()
        self.equipment.close()
        self.deployment.close()
        self.store.close()

    def _windows(self) -> WindowStore:
        config = self._outside.config
        return WindowStore(
            windows_file(config.agent.state, self.job),
            clock=self._outside.clock,
            max_bytes=config.store.max_bytes,
            max_age_seconds=config.store.max_age_days * 86400.0,
            rules=rules_of(config.store, self._outside.level),
            joining=joining_of(self.job.labels),
        )

    def _equip(self, text: bytes) -> None:
        outside, config, log = self._outside, self._outside.config, self._log
        self.scorer = Scorer(outside.clock, log, batch=config.inference.batch)
        self.intake = Intake(self.job, config, self.store, self.scorer, log)
        self.deployment = Deployment(
            VersionShelf(versions_folder(config.agent.state, self.job)),
            self.scorer,
            Serving(self._folder, self.job, log),
            self._around(),
            request=lambda request: outside.send("request", request),
            arrived=self._arrived,
        )
        self.participation = self._participation(text)
        parts = Parts(
            self.job, self._folder, self.scorer, self.store, self.deployment, outside.clock, log
        )
        self.equipment = Equipment(parts, outside, self.intake)
        self.deployment.resume()
        self.equipment.resumed()
        self.streams = Streams(self.job, self.intake, config.sources, self._ways())

    def _participation(self, text: bytes) -> Participation:
        """What takes part in the rounds of the job with the canonical ``text``."""
        outside = self._outside
        return Participation(
            self.job,
            text,
            self._folder,
            self.deployment,
            Ports(
                send=outside.send,
                submit=outside.submit,
                number=outside.number,
                obstacle=outside.obstacle,
                identity=self._identity,
            ),
            agent=outside.config.agent.id,
            store=windows_file(outside.config.agent.state, self.job),
            clock=outside.clock,
            log=self._log,
        )

    def _identity(self) -> str:
        """File with the key that proves to the broker who we are: it signs as well."""
        tls = self._outside.config.broker.tls
        return tls.key if tls is not None else ""

    def _around(self) -> Around:
        """What installations work with."""
        outside, job = self._outside, self.job
        held_out = HeldOut(job, windows_file(outside.config.agent.state, job), self._keeps_aside)
        return Around(
            job,
            outside.clock,
            self._log,
            background=outside.background,
            disk=outside.disk,
            # Distances from principal components are over limits of their own, and no errors.
            held_out=None if isinstance(job.model, Pca) else held_out,
            changed=outside.hurry,
            verifier=outside.verifier,
            audit=outside.audit,
            refit=self._refitted if job.feedback.method != "off" else None,
        )

    def _keeps_aside(self) -> bool:
        """Whether there may be windows to compare models on; in most jobs there are none."""
        sources = self._outside.config.sources
        return self.job.evaluation.validation > 0.0 or any(
            source.split == "validation" for source in sources
        )

    def _refitted(self, checked: Checked) -> NDArray[np.float32] | None:
        feedback = self.equipment.feedback
        return None if feedback is None else feedback.refitted(checked)

    def _ways(self) -> Ways:
        outside = self._outside
        return Ways(outside.feed, outside.number, outside.clock, outside.hub)
