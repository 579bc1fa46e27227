# SPDX-License-Identifier: Apache-2.0
"""Plants that lie apart from the federation, in the features of its model: what feedback is for.

Bearings (CWRU): the federation knows motor load 0, with the healthy state. A plant runs at load 1,
with the same sensors or with others. Of each recording labels come from the first part, and the
last part, behind a gap, is held out. Or the federation knows both loads and all faults but one, and
that one is all that the plant labels.

Engines (C-MAPSS): the federation has 60 engines of the first set. A plant has others of that set,
or those of the third, which fail in a second way as well. Whole engines are held out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray
from tests.laboratory.federation import first_version
from tests.laboratory.plants import Plant
from tests.laboratory.recordings import Recording, data_folder, recordings_of
from tests.laboratory.trials import job_of

from fedmill_agent.cutter import Cutter
from fedmill_agent.sources.base import LabelInterval
from fedmill_agent.sources.cmapss import KIND, CmapssOptions
from fedmill_agent.store.dataset import LabelRow, at_ends
from fedmill_coordinator.demo.recipes.plan import example
from fedmill_shared.errors import DataError
from fedmill_shared.job import Job
from fedmill_shared.learning.examples import Examples, make_examples
from fedmill_shared.learning.local import train
from fedmill_shared.models import build, initial_vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.readout import readout_of, target_of
from fedmill_shared.signals.agreement import normaliser_of
from fedmill_shared.signals.moments import collect

Matrix = NDArray[np.float64]

NOISE = 0.05
"""Of the sensors, standard deviation in g."""
ROUNDS, STEPS = 6, 300
ENGINES, ENGINE_ROUNDS = 60, 12
_BATCH = 256


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A plant's windows as its last layer sees them.

    Attributes:
        name: what figures call it.
        head: (width + 1, outputs), the federation's.
        classes: whether the outputs are classes.
        unit: how far one step of a target is in the label's unit.
        features: (n, width) of windows that may get labels.
        targets: (n, outputs): one 1 in a row of classes, or the number in standardised units.
        labelled: (k,), positions of those that people may label.
        held_out: features (m, width) and targets (m, outputs).
    """

    name: str
    head: Matrix
    classes: bool
    unit: float
    features: Matrix
    targets: Matrix
    labelled: NDArray[np.intp]
    held_out: tuple[Matrix, Matrix]


def bearing_scenes() -> Iterator[Scene]:
    """One after the other; each trains a model for some seconds.

    Raises:
        DataError: there are no recordings.
    """
    job = job_of(
        {
            "model": {"channels": [16, 32, 64], "pool": "mean", "hidden": 0},
            "learning": {"steps": STEPS},
            "federation": {"rounds": ROUNDS},
        },
        0,
    )
    recordings = recordings_of(data_folder(), job)
    here = [each for each in recordings if each.load == 0]
    there = [each for each in recordings if each.load == 1]
    model = _bearing_model(job, here)
    for name, gains in (("same sensors", (1.0, 1.0)), ("other sensors", (0.5, 1.6))):
        yield _scene(f"bearings, other load, {name}", job, model, _plant(job, there, gains))
    for fault in ("B021", "OR007@6"):
        known = [each for each in recordings if each.fault != fault]
        model = _bearing_model(job, known)
        plant = _plant(job, there, (0.7, 1.3))
        yield _scene(f"bearings, {fault} is new", job, model, plant, only=fault)


def engine_scenes() -> Iterator[Scene]:
    """The same of engines.

    Raises:
        DataError: there are no engines.
    """
    job = example("cmapss")
    job = structs.replace(job, learning=structs.replace(job.learning, steps=200))
    model = _engine_model(job)
    for name, file, known, held_out in (
        ("same set", "train_FD001.txt.gz", range(61, 81), range(81, 101)),
        ("another fault mode", "train_FD003.txt.gz", range(1, 31), range(50, 80)),
    ):
        parts = _engines(job, file, tuple(known)), _engines(job, file, tuple(held_out))
        yield _scene(f"engines, {name}", job, model, parts)


def _bearing_model(job: Job, recordings: Sequence[Recording]) -> FlatModel:
    examples = _examples(job, recordings, (1.0, 1.0), "train")
    model = FlatModel(build(job, 0))
    model.load(first_version(job, [Plant("all", examples, examples)]))
    return _trained(model, job, examples, ROUNDS)


def _plant(
    job: Job, recordings: Sequence[Recording], gains: tuple[float, float]
) -> tuple[Examples, Examples]:
    first, last = (_examples(job, recordings, gains, part) for part in ("train", "test"))
    return first, last


def _examples(
    job: Job, recordings: Sequence[Recording], gains: tuple[float, float], part: str
) -> Examples:
    random = np.random.default_rng(len(recordings))
    values, texts, runs = [], [], []
    for each in recordings:
        windows: NDArray[np.float32] = getattr(each, part)
        noise = NOISE * random.standard_normal(windows.shape, np.float32)
        values.append(windows * np.array(gains, np.float32)[:, None] + noise)
        texts += [each.fault] * len(windows)
        runs += [f"{each.fault}_{each.load}"] * len(windows)
    return make_examples(job, np.concatenate(values), texts, np.full(len(texts), np.nan), runs)


def _engine_model(job: Job) -> FlatModel:
    examples = _engines(job, "train_FD001.txt.gz", tuple(range(1, ENGINES + 1)))
    numbers = examples.targets.numpy().astype(np.float64)
    inputs = examples.inputs.numpy()
    told = [collect(inputs, job.inputs, job.regimes, job.resolution, numbers)]
    normaliser = normaliser_of(job, told)
    model = FlatModel(build(job, 0, regimes=normaliser.regimes))
    model.load(initial_vector(job, normaliser, 1))
    return _trained(model, job, examples, ENGINE_ROUNDS)


@cache
def _lives(file: str, engines: tuple[int, ...]) -> CmapssOptions:
    path = data_folder().parent / "cmapss" / file
    if not Path(path).is_file():
        raise DataError(f"no engines in {path}", remedy="set FEDMILL_DATA")
    return CmapssOptions(name="it", path=str(path), engines=engines)


def _engines(job: Job, file: str, engines: tuple[int, ...]) -> Examples:
    options = _lives(file, engines)
    cutter = Cutter("laboratory", job.signals, job.window, options, cleaning=job.cleaning)
    labels: dict[str, LabelRow] = {}
    windows = []
    for event in KIND.read(options, cutter.tags, job.rate_hz):
        if isinstance(event, LabelInterval):
            each = event
            labels[each.run] = LabelRow(
                each.run, each.start_ns, each.end_ns, "", each.start_value, each.end_value
            )
        else:
            windows += cutter.take(event)
    ends = [at_ends(np.array([each.end_ns]), labels[each.run])[0] for each in windows]
    values = np.stack([each.values for each in windows])
    return make_examples(
        job, values, [""] * len(ends), np.array(ends), [each.run for each in windows]
    )


def _trained(model: FlatModel, job: Job, examples: Examples, rounds: int) -> FlatModel:
    last = job.federation.rounds
    for round_ in range(1, rounds + 1):
        train(model, job, examples, round_=round_ * last // rounds, seed=round_)
    return model


def _scene(
    name: str, job: Job, model: FlatModel, parts: tuple[Examples, Examples], *, only: str = ""
) -> Scene:
    readout = readout_of(model.manifest)
    if readout is None:
        raise DataError(f"the model of {name} has no last layer")
    offset, scale = target_of(model.manifest, model.vector)
    found = []
    for examples in parts:
        inputs, targets = examples.inputs.numpy(), examples.targets
        blocks = [
            model.features(inputs[first : first + _BATCH])
            for first in range(0, len(inputs), _BATCH)
        ]
        told = np.concatenate(blocks).astype(np.float64)
        if job.labels.classes:
            found.append((told, np.eye(job.outputs)[targets.numpy()]))
        else:
            found.append((told, ((targets.to(torch.float64).numpy() - offset) / scale)[:, None]))
    features, targets = found[0]
    places = np.arange(len(targets))
    if only:
        places = np.flatnonzero(targets[:, job.labels.classes.index(only)])
    classes = bool(job.labels.classes)
    unit = 1.0 if classes else scale
    return Scene(
        name, readout.matrix(model.vector), classes, unit, features, targets, places, found[1]
    )
