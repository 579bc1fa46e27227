# SPDX-License-Identifier: Apache-2.0
"""One fit, from the store and the version that serves to a vector that could. Not on the loop.

What is fitted follows from the windows, their labels and the federation's head alone. So nothing
but that head must be remembered: labels that are corrected or deleted are as if they had never been
otherwise, and a restart comes to the same numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmill_agent import kept
from fedmill_agent.feedback import anchor, fitting
from fedmill_agent.feedback.anchor import HEAD_FILE, HeadState
from fedmill_agent.feedback.fitting import Settings, Windows, Worth
from fedmill_agent.feedback.reading import FeatureReader
from fedmill_agent.feedback.selection import Bounds, Selection, Truth, select
from fedmill_shared.clock import Clock
from fedmill_shared.errors import ModelError
from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.messages import VersionNotice
from fedmill_shared.models.manifest import Manifest, vector_bytes
from fedmill_shared.models.readout import Readout, readout_of, target_of
from fedmill_shared.onnx_session import OnnxSession

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A version: layout, graph without weights, and float32 weights (size,)."""

    manifest: Manifest
    template: bytes
    vector: Vector


Load = Callable[[VersionNotice], tuple[Manifest, bytes, Vector]]
"""Layout, graph and weights of a version."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of a look at the labels.

    Attributes:
        labels: labelled windows.
        changed: labels that are new, gone or different since the last fit.
        worth: how the fit does on what it has not seen; None where nothing was fitted.
        vector: float32 (size,), what is to serve in place of what does; None: nothing.
    """

    labels: int
    changed: int = 0
    worth: Worth | None = None
    vector: Vector | None = None

    @property
    def used(self) -> bool:
        """Whether the fit is worth having."""
        return self.worth is not None and self.worth.better


class Head:
    """Owns what is remembered between the fits of one job; for one thread at a time."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        windows: Path,
        *,
        load: Load,
        clock: Clock,
    ) -> None:
        """``folder`` is the job's, ``windows`` its store; ``load`` reads a version."""
        self._job = job
        self._path = folder / HEAD_FILE
        self._load = load
        self._clock = clock
        self._reader = FeatureReader(windows)
        self._fitted_to: dict[int, Truth] | None = None
        self._ours = False

    def look(self, notice: VersionNotice) -> Outcome:
        """Fit anew to the labels that there are, if there is reason to.

        Raises:
            StoreError: store, version or state cannot be read or written.
            FrameError: the version cannot be decoded.
            ModelError: its graph does not tell what the last layer works on.
        """
        windows, classes = self._reader.windows(), self._job.labels.classes
        if not select(windows, classes).known and not self._path.exists():
            return Outcome(0)  # before a version is read: most agents have no label yet
        model = Model(*self._load(notice))
        readout = readout_of(model.manifest)
        if readout is None or readout.outputs != self._job.outputs:
            raise ModelError("the model has no linear layer at its end that gives its outputs")
        selection = select(windows, classes, Bounds.of(readout.width))
        serving = _head(readout, model.vector)
        state = anchor.find(self._path, model.manifest.digest)
        changed, wrong = _changes(self._fitted_to or {}, selection)
        known = anchor.is_known(state, serving) and self._fitted_to is not None
        few = selection.known < self._job.feedback.min_labels
        due = self._replaced(state, serving) or not known or wrong
        due = due or changed >= self._job.feedback.every_labels
        if not due or (few and state is None):
            return Outcome(selection.known, changed)
        wanted = anchor.federated(state, serving)
        worth = None
        if not few:
            worth, wanted = self._fit(model, readout, selection, wanted)
        self._keep(model, selection, worth, (anchor.federated(state, serving), wanted, serving))
        self._fitted_to = dict(selection.labelled)
        outcome = Outcome(selection.known, changed, worth)
        if np.array_equal(wanted, serving):
            return outcome
        return replace(outcome, vector=readout.put(model.vector, _matrix(readout, wanted)))

    def _replaced(self, state: HeadState | None, serving: Vector) -> bool:
        """Whether the federation's head serves again in place of one that was fitted here.

        A release has brought it back, or it was gone back to; the installer knows which, and takes
        on no second time what was gone back from.
        """
        before = self._ours
        self._ours = not np.array_equal(serving, anchor.federated(state, serving))
        return before and not self._ours

    def refitted(self, model: Model, serving: VersionNotice) -> Vector | None:
        """``model``, a newer one, fitted (size,) to the labels as the one that is ``serving`` was.

        None where the federation's own layer serves, and where a fit is worth nothing. Nothing is
        remembered of it: once the model serves, ``look`` comes to the same numbers.

        Raises:
            StoreError: store, version or state cannot be read.
            DataError: the state is damaged.
            FrameError: what is serving cannot be decoded.
            ModelError: the graph does not tell what the last layer works on.
        """
        served = Model(*self._load(serving))
        old, readout = readout_of(served.manifest), readout_of(model.manifest)
        if old is None or readout is None or readout.outputs != self._job.outputs:
            return None
        head = _head(old, served.vector)
        state = kept.look(self._path, HeadState, served.manifest.digest)
        if np.array_equal(anchor.federated(state, head), head):
            return None
        windows, bounds = self._reader.windows(), Bounds.of(readout.width)
        selection = select(windows, self._job.labels.classes, bounds)
        if selection.known < self._job.feedback.min_labels:
            return None
        worth, fitted = self._fit(model, readout, selection, _head(readout, model.vector))
        return readout.put(model.vector, _matrix(readout, fitted)) if worth.better else None

    def _fit(
        self, model: Model, readout: Readout, selection: Selection, head: Vector
    ) -> tuple[Worth, Vector]:
        """How a fit to the ``selection`` does, and the head that is to serve."""
        windows = self._windows(model, readout, selection)
        settings, matrix = self._settings(), _matrix(readout, head)
        worth = fitting.worth(windows, matrix, settings)
        if not worth.better:
            return worth, head
        fitted = fitting.fit(windows, matrix, settings)
        return worth, _head(readout, readout.put(model.vector, fitted))

    def _windows(self, model: Model, readout: Readout, selection: Selection) -> Windows:
        blank = readout.put(model.vector, np.zeros((readout.width + 1, readout.outputs)))
        backbone = sha256(model.template + vector_bytes(blank))
        session = OnnxSession.from_template(model.template, model.vector)
        ids = [*selection.labelled, *selection.others]
        if session.features not in (None, readout.width):
            told = f"{session.features} features, and its last layer works on {readout.width}"
            raise ModelError(f"the model's graph tells {told}")
        read = self._reader.rows(ids, session, backbone)
        rows = {each: row for each, row in read.items() if np.isfinite(row).all()}
        labelled = {each: truth for each, truth in selection.labelled.items() if each in rows}
        return Windows(
            _stacked(rows, labelled, readout.width),
            self._targets(model, labelled),
            _stacked(
                rows, {each: None for each in selection.others if each in rows}, readout.width
            ),
        )

    def _targets(self, model: Model, labelled: Mapping[int, Truth]) -> NDArray[np.float64]:
        job = self._job
        if job.job.task == "classification":
            places = [job.labels.classes.index(truth.text) for truth in labelled.values()]
            return np.eye(job.outputs)[places]
        offset, scale = target_of(model.manifest, model.vector)
        numbers = np.array([truth.number for truth in labelled.values()], np.float64)
        if job.labels.cap:
            numbers = np.minimum(numbers, job.labels.cap)
        return ((numbers - offset) / scale)[:, None]

    def _settings(self) -> Settings:
        feedback = self._job.feedback
        return Settings(
            method="prototypes" if feedback.method == "prototypes" else "ridge",
            classes=self._job.job.task == "classification",
            strength=feedback.strength,
            forgetting=feedback.forgetting,
        )

    def _keep(
        self,
        model: Model,
        selection: Selection,
        worth: Worth | None,
        heads: tuple[Vector, Vector, Vector],
    ) -> None:
        """Before anything is proposed: a head of ours is known as such even after a power cut."""
        state = HeadState(
            layout=model.manifest.digest,
            vectors=anchor.vectors(*heads),
            method=self._job.feedback.method,
            labels=selection.known,
            gained=worth.gained if worth is not None else 0,
            lost=worth.lost if worth is not None else 0,
            used=worth is not None and worth.better,
            moment_ns=self._clock.now_ns(),
        )
        kept.keep(self._path, state)


def _changes(fitted_to: Mapping[int, Truth], selection: Selection) -> tuple[int, bool]:
    """Labels that differ from those of the last fit, and whether one of these no longer holds.

    A window that the store has given up took its label with it: that was not wrong.
    """
    now = selection.labelled
    added = len(now.keys() - fitted_to.keys())
    other = sum(now[each] != truth for each, truth in fitted_to.items() if each in now)
    withdrawn = fitted_to.keys() & selection.unlabelled
    gone = len(fitted_to.keys() - now.keys())
    return added + other + gone, bool(other or withdrawn)


def _head(readout: Readout, vector: Vector) -> Vector:
    return readout.matrix(vector).astype(np.float32).ravel()


def _matrix(readout: Readout, head: Vector) -> NDArray[np.float64]:
    return head.reshape(readout.width + 1, readout.outputs).astype(np.float64)


def _stacked(
    rows: Mapping[int, Vector], ids: Mapping[int, object], width: int
) -> NDArray[np.float64]:
    if not ids:
        return np.empty((0, width))
    return np.stack([rows[each] for each in ids]).astype(np.float64)
