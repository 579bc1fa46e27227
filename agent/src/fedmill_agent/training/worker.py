# SPDX-License-Identifier: Apache-2.0
"""What the training process does for each request. Imports torch."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedmill_agent.residual import read_residual
from fedmill_agent.store.dataset import Dataset
from fedmill_agent.store.splits import StoredSplit
from fedmill_agent.store.windows import WindowStore
from fedmill_agent.training import protocol
from fedmill_shared.codec import CODECS
from fedmill_shared.codec.feedback import carry, compensate
from fedmill_shared.codec.frame import FrameHeader, decode_frame, encode_frame, prefix
from fedmill_shared.errors import DataError, ModelError, StoreError
from fedmill_shared.job import Job
from fedmill_shared.job_check import job_from_canonical
from fedmill_shared.learning import local
from fedmill_shared.models import build
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.seeds import seed_for
from fedmill_shared.signals.moments import Moments, collect


@dataclass(slots=True)
class Worker:
    """Keeps models and windows warm between requests of the same job."""

    models: dict[tuple[bytes, int], tuple[Job, FlatModel]] = field(default_factory=dict)
    examples: dict[tuple[str, str], tuple[int, local.Examples]] = field(default_factory=dict)

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
            case protocol.Warm():
                job, _ = self._model(request.job, 1)
                self._examples(job, request.store, "train")
                return protocol.Ready(number=request.number)

    def _collect(self, request: protocol.CollectMoments) -> protocol.MomentsCollected:
        job = job_from_canonical(request.job)
        with WindowStore.reader(Path(request.store)) as store:
            dataset = store.load("train", task=job.job.task)
        if not len(dataset.inputs):
            raise DataError(f"job {job.name}: no labelled training windows")
        return protocol.MomentsCollected(number=request.number, moments=moments_of(job, dataset))

    def _train(self, request: protocol.Train) -> protocol.Trained:
        started = time.perf_counter()
        job, model = self._model(request.job, request.regimes)
        model.load(read_vector(Path(request.weights), model.manifest.size))
        examples = self._examples(job, request.store, "train")
        seed = seed_for(job.name, request.round, request.agent)
        result = local.train(model, job, examples, round_=request.round, seed=seed)
        if not math.isfinite(result.loss):
            raise ModelError(
                f"job {job.name}: round {request.round} diverged, its loss is {result.loss}",
                remedy="lower learning.learning_rate",
            )
        delta = result.delta
        method = CODECS[job.compression.uplink]
        feedback = job.compression.error_feedback and not method.lossless
        if feedback and request.residual:
            delta = compensate(delta, read_residual(Path(request.residual), len(delta)))
        header = FrameHeader(
            content="delta",
            round=request.round,
            base=prefix(request.base),
            schema=prefix(request.schema),
            examples=result.examples,
            seed=seed,
        )
        frame = encode_frame(method, delta, header, np.random.default_rng(seed))
        residual = b""
        if feedback:
            _, decoded = decode_frame(frame, elements=len(delta))
            residual = carry(delta, decoded).tobytes()
        return protocol.Trained(
            number=request.number,
            frame=frame,
            residual=residual,
            examples=result.examples,
            loss=result.loss,
            seconds=time.perf_counter() - started,
        )

    def _evaluate(self, request: protocol.Evaluate) -> protocol.Evaluated:
        job, model = self._model(request.job, request.regimes)
        model.load(read_vector(Path(request.weights), model.manifest.size))
        examples = self._examples(job, request.store, "test")
        statistic, last = local.evaluate(model, job, examples)
        return protocol.Evaluated(
            number=request.number, version=request.version, statistic=statistic, last=last
        )

    def _model(self, text: bytes, regimes: int) -> tuple[Job, FlatModel]:
        key = text, regimes
        if key not in self.models:
            self.models.clear()
            job = job_from_canonical(text)
            self.models[key] = job, FlatModel(build(job, 0, regimes=regimes))
        return self.models[key]

    def _examples(self, job: Job, path: str, split: StoredSplit) -> local.Examples:
        with WindowStore.reader(Path(path)) as store:
            generation = store.generation(split)
            held = self.examples.get((path, split))
            if held is not None and held[0] == generation:
                return held[1]
            examples = examples_of(job, store.load(split, task=job.job.task))
        self.examples[path, split] = generation, examples
        return examples


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
        [job.signals[i].resolution for i in job.regimes],
        targets,
    )


def read_vector(path: Path, elements: int) -> NDArray[np.float32]:
    """A float32 vector (elements,) from a file.

    Raises:
        StoreError: the file is missing or has another size.
    """
    try:
        vector = np.fromfile(path, dtype="<f4")
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    if vector.shape != (elements,):
        raise StoreError(f"{path}: {vector.size} numbers, the model has {elements}")
    return vector


def quiet_torch() -> None:
    """One thread: a second one gains nothing on small models and collapses under contention."""
    torch.set_num_threads(1)
    if torch.get_num_interop_threads() != 1:  # torch lets it be set once only
        torch.set_num_interop_threads(1)
