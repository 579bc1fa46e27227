# SPDX-License-Identifier: Apache-2.0
"""What the training process does for each request. Imports torch."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedmill_agent import home
from fedmill_agent.store.dataset import Dataset
from fedmill_agent.store.splits import StoredSplit
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training import protocol
from fedmill_agent.training.candidates import Windows, choose, train_alone
from fedmill_agent.training.encoding import encode_update
from fedmill_agent.training.signal_shift import newest, noted
from fedmill_agent.training.signing import sign, signed
from fedmill_agent.training.vectors import read_vector
from fedmill_shared.clock import Clock, SystemClock
from fedmill_shared.errors import DataError
from fedmill_shared.job import Job
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.learning import local
from fedmill_shared.learning.home import NOTHING, personalised
from fedmill_shared.models import build
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.seeds import seed_for
from fedmill_shared.signals.moments import Moments, collect
from fedmill_shared.signals.shift import shift_of

Shift = dict[str, tuple[float, float]]


@dataclass(slots=True)
class _Held:
    """Windows of one split as the store had them at ``generation``.

    ``shift`` is what stands out in the newest of them, by the normaliser (bytes) it was found with.
    """

    generation: int
    examples: local.Examples
    newest: NDArray[np.int64]
    shift: tuple[bytes, Shift] | None = None


@dataclass(slots=True)
class Worker:
    """Keeps models and windows warm between requests of the same job."""

    models: dict[tuple[bytes, int], tuple[Job, FlatModel]] = field(default_factory=dict)
    held: dict[tuple[str, str], _Held] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)

    def answer(self, request: protocol.Request) -> protocol.Answer:
        """Do what is asked.

        Raises:
            FedmillError: it cannot be done.
        """
        match request:
            case protocol.CollectMoments():
                return self._collect(request)
            case protocol.Train():
                return self._train(request)
            case protocol.Evaluate():
                return self._evaluate(request)
            case protocol.TrainAlone():
                job, model = self._model(request.job, request.regimes)
                held = self._windows(job, request.store, "train")
                return train_alone(request, job, model, held.examples)
            case protocol.Choose():
                return self._choose(request)
            case protocol.Warm() | protocol.Sign():
                return self._prepare(request)

    def _prepare(self, request: protocol.Warm | protocol.Sign) -> protocol.Answer:
        if isinstance(request, protocol.Sign):
            return sign(request)
        job, _ = self._model(request.job, 1)
        self._windows(job, request.store, "train")
        return protocol.Ready(number=request.number)

    def _collect(self, request: protocol.CollectMoments) -> protocol.MomentsCollected:
        job = job_from_canonical(request.job)
        with WindowStore.reader(Path(request.store)) as store:
            dataset = store.load("train", task=job.job.task)
        if not len(dataset.inputs):
            raise DataError(f"job {job.name}: no {job.learns_from}")
        return protocol.MomentsCollected(number=request.number, moments=moments_of(job, dataset))

    def _train(self, request: protocol.Train) -> protocol.Trained:
        started = time.perf_counter()
        job, model = self._model(request.job, request.regimes)
        version = read_vector(Path(request.weights), model.manifest.size)
        model.load(version)
        held = self._windows(job, request.store, "train")
        seed = seed_for(job.name, request.round, request.agent)
        begun = self._begin(request, job, model)
        result = local.train(
            model, job, held.examples, round_=request.round, seed=seed, home=begun.home
        )
        encoded = encode_update(request, job, result.delta, examples=result.examples, seed=seed)
        if request.home:
            path = Path(request.home)
            home.leave(path, model.manifest, request.round, before=begun.home, after=result.home)
        trained = protocol.Trained(
            number=request.number,
            set_aside=str(begun.set_aside or ""),
            frame=encoded.frame,
            residual=encoded.residual,
            examples=result.examples,
            loss=result.loss,
            seconds=time.perf_counter() - started,
            steps=result.steps_weight,
            shift=_shift(job, model, version, held),
        )
        return signed(trained, request, job.name, made_ns=self.clock.now_ns())

    def _begin(self, request: protocol.Train, job: Job, model: FlatModel) -> home.Start:
        if not request.home:
            return home.Start(NOTHING)
        return home.start(
            Path(request.home), model.manifest, job, request.round, undone=request.undone
        )

    def _evaluate(self, request: protocol.Evaluate) -> protocol.Evaluated:
        job, model = self._model(request.job, request.regimes)
        version = read_vector(Path(request.weights), model.manifest.size)
        if request.home:
            mine = home.current(Path(request.home), model.manifest, job)
            version = personalised(model.manifest, job, version, mine)
        model.load(version)
        held = self._windows(job, request.store, "test")
        statistic, last = local.evaluate(model, job, held.examples)
        return protocol.Evaluated(
            number=request.number, version=request.version, statistic=statistic, last=last
        )

    def _choose(self, request: protocol.Choose) -> protocol.Chosen:
        job, model = self._model(request.job, request.regimes)
        windows = Windows(
            train=self._windows(job, request.store, "train").examples,
            validation=self._windows(job, request.store, "validation").examples,
            test=self._windows(job, request.store, "test").examples,
        )
        return choose(request, job, model, windows)

    def _model(self, text: bytes, regimes: int) -> tuple[Job, FlatModel]:
        key = text, regimes
        if key not in self.models:
            self.models.clear()
            job = job_from_canonical(text)
            self.models[key] = job, FlatModel(build(job, 0, regimes=regimes))
        return self.models[key]

    def _windows(self, job: Job, path: str, split: StoredSplit) -> _Held:
        with WindowStore.reader(Path(path)) as store:
            generation = store.generation(split)
            held = self.held.get((path, split))
            if held is not None and held.generation == generation:
                return held
            dataset = store.load(split, task=job.job.task)
        held = _Held(generation, examples_of(job, dataset), newest(dataset.end_ns))
        self.held[path, split] = held
        return held


def _shift(job: Job, model: FlatModel, version: NDArray[np.float32], held: _Held) -> Shift:
    """What stands out in the newest windows; looked for again once they have changed."""
    normaliser = model.manifest.gather(version, ("buffer",)).tobytes()
    if held.shift is None or held.shift[0] != normaliser:
        windows = held.examples.inputs.numpy()[held.newest]
        held.shift = normaliser, noted(shift_of(job, model.manifest, version, windows))
    return held.shift[1]


def examples_of(job: Job, dataset: Dataset) -> local.Examples:
    """Stored windows as tensors."""
    return local.make_examples(job, dataset.inputs, dataset.texts, dataset.numbers, dataset.runs)


def moments_of(job: Job, dataset: Dataset) -> Moments:
    """Statistics of stored windows, for the standardisation that the fleet agrees on."""
    targets: NDArray[np.float64] | None = None
    if job.job.task == "regression":
        examples = examples_of(job, dataset)
        targets = examples.targets.numpy().astype(np.float64)
    return collect(
        dataset.inputs,
        job.inputs,
        job.regimes if job.window.normalise == "regime" else [],
        job.resolution,
        targets,
    )


def quiet_torch() -> None:
    """One thread: a second one gains nothing on small models and collapses under contention."""
    torch.set_num_threads(1)
    if torch.get_num_interop_threads() != 1:  # torch lets it be set once only
        torch.set_num_interop_threads(1)
