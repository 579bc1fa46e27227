# SPDX-License-Identifier: Apache-2.0
"""Int8 beside float32: what a convolutional model gains and loses by it on this machine.

The vibration model (WDCNN, one signal of 2048 samples) is trained on the CWRU bearing recordings,
ten classes, with each kind of norm. Its scales come from training windows alone, as an agent takes
them; accuracy is that of windows behind a gap. Both sessions run in turn, so that they see the same
machine.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_most, figure
from tests.laboratory.recordings import Recording, data_folder, recordings_of, stacked

from fedmill_agent.inference.int8.calibration import Extremes
from fedmill_agent.inference.int8.guarded import GuardedSession
from fedmill_agent.inference.int8.trial import compared
from fedmill_coordinator.registry.quantised import quantise
from fedmill_coordinator.registry.versions import Architecture
from fedmill_shared.errors import ModelError
from fedmill_shared.job import Job, Labels, Learning, Norm, Signal, Task, Wdcnn, Window
from fedmill_shared.learning.alone import fit_alone
from fedmill_shared.learning.examples import make_examples
from fedmill_shared.models import initial_vector
from fedmill_shared.models.quantised import Quantised, bind, ranges_session, unpack_quantised
from fedmill_shared.onnx_session import OnnxSession
from fedmill_shared.signals.agreement import normaliser_of
from fedmill_shared.signals.moments import collect

SUMMARY = "int8 convolutions beside float32: latency, accuracy, bytes"
NORMS: tuple[Norm, ...] = ("none", "batch", "group")
BATCHES = (1, 32)
MOST_LOST = 0.5
"""Points of accuracy."""
MOST_TIME = 0.9
"""Of float32's, where convolutions follow each other and 32 windows are scored at once."""

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A trained model in both forms."""

    plain: OnnxSession
    int8: OnnxSession
    template: bytes
    form: Quantised


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the bench."""
    parser.add_argument("--epochs", type=int, default=12, help="of training each model")


def run(options: argparse.Namespace) -> list[Figure]:
    """Train, quantise, measure: one kind of norm after the other."""
    recordings = recordings_of(data_folder(), job_of("none"))
    return [
        each for norm in NORMS for each in figures(norm, recordings, rounds=max(1, options.epochs))
    ]


def figures(norm: Norm, recordings: Sequence[Recording], *, rounds: int) -> list[Figure]:
    """What int8 does to a model with this norm, trained on ``recordings``."""
    job = job_of(norm, sorted({recording.fault for recording in recordings}))
    case = case_of(job, recordings, rounds)
    test = stacked([window for recording in recordings for window in recording.test])
    truth = np.concatenate(
        [np.full(len(each.test), job.labels.classes.index(each.fault)) for each in recordings]
    )
    plain, int8 = (outputs(session, test).argmax(1) for session in (case.plain, case.int8))
    before, after = (100.0 * float(np.mean(said == truth)) for said in (plain, int8))
    found = [
        figure(f"{norm}: accuracy float32", before, "%"),
        figure(f"{norm}: accuracy int8", after, "%"),
        at_most(f"{norm}: accuracy lost", before - after, "points", MOST_LOST),
        figure(f"{norm}: the same class", 100.0 * float(np.mean(plain == int8)), "%"),
        figure(f"{norm}: template float32", len(case.template), "B"),
        figure(f"{norm}: template int8", len(case.form.template), "B"),
        figure(f"{norm}: template of ranges", len(case.form.ranges), "B"),
    ]
    for batch in BATCHES:
        times = compared(case.plain, case.int8, test[:batch], perf_counter)
        told = f"{norm}: {batch} window{'s' * (batch > 1)}"
        found += [
            figure(f"{told}: float32", 1e3 * times[0], "us"),
            figure(f"{told}: int8", 1e3 * times[1], "us"),
            limited(f"{told}: int8 / float32", times[1] / times[0], norm, batch),
        ]
    return found


def limited(name: str, ratio: float, norm: Norm, batch: int) -> Figure:
    """With group norm every convolution stands alone between float32: there little is gained."""
    if norm == "group" or batch == 1:
        return figure(name, ratio, "1")
    return at_most(name, ratio, "1", MOST_TIME)


def job_of(norm: Norm, classes: Sequence[str] = ("one", "other")) -> Job:
    """The vibration model of the job file's defaults."""
    return Job(
        job=Task(name=f"bench-{norm}"),
        signals=[Signal(name="drive_end", unit="g", rate_hz=12_000.0, tag="*_DE_time")],
        window=Window(length=2048, stride=1024),
        labels=Labels(classes=list(classes)),
        model=Wdcnn(norm=norm),
        learning=Learning(batch_size=32, personal="norm" if norm == "batch" else "none"),
    )


def case_of(job: Job, recordings: Sequence[Recording], rounds: int) -> Case:
    """The model of ``job`` after ``rounds`` epochs over all recordings.

    Raises:
        ModelError: it diverged, or has no int8 form.
    """
    torch.set_num_threads(1)
    train = stacked([window for recording in recordings for window in recording.train])
    texts = [recording.fault for recording in recordings for _ in recording.train]
    normaliser = normaliser_of(job, [collect(train, job.inputs, [], [], None)])
    architecture = Architecture.create(job, normaliser)
    model = architecture.model
    model.load(initial_vector(job, normaliser, 1))
    examples = make_examples(job, train, texts, np.full(len(train), np.nan), texts)
    fit_alone(model, job, examples, rounds=range(1, rounds + 1), agent="bench")
    vector = model.vector.copy()
    blob = quantise(architecture.template)
    if blob is None:
        raise ModelError(f"{job.name}: the model has no convolutions")
    form = unpack_quantised(blob)
    portions = np.array_split(train, max(1, len(train) // 32))
    extremes = Extremes.of(ranges_session(form, vector), form, portions)
    plain = OnnxSession.from_template(architecture.template, vector)
    int8 = bind(form, vector, extremes.scales()[0])
    guarded = GuardedSession(int8, plain, extremes.limits())
    return Case(plain, guarded, architecture.template, form)


def outputs(session: OnnxSession, windows: Values) -> Values:
    """Of all ``windows``, some at a time."""
    portions = np.array_split(windows, max(1, len(windows) // 32))
    return np.concatenate([session.run(portion) for portion in portions])
