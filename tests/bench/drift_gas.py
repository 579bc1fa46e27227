# SPDX-License-Identifier: Apache-2.0
"""Gas sensors that age over three years: a model of the first batch on the four that follow.

Vergara et al. 2012, "Chemical gas sensor drift compensation using classifier ensembles". What is
recalibrated sees a batch without its labels; what learns from labels is given ``LABELS`` windows of
a batch at random, and tested on its others.
"""

import gzip
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tests.bench.harness import Figure, at_least, at_most, figure

from fedmill_agent.drift.charts import calibrated
from fedmill_agent.drift.normaliser import Normaliser, Tally
from fedmill_agent.drift.rows import input_row
from fedmill_agent.feedback.fitting import Settings, Windows, fit
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.learning.alone import fit_alone
from fedmill_shared.learning.examples import Examples
from fedmill_shared.models import build
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.normaliser import Normaliser as Standard
from fedmill_shared.models.readout import readout_of

BATCHES = (1, 2, 3, 4, 5)
VECTOR_MACHINE = (81.0, 56.0, 37.0, 11.0)
"""Per cent of a support vector machine on batches 2 to 5, measured with its usual settings."""
GASES, FEATURES, LABELS, ROUNDS, SEEDS = 6, 128, 50, 30, 3
LARGEST_LINE = 10_000

Float32 = NDArray[np.float32]
Batch = tuple[Float32, NDArray[np.int64]]


def run(folder: Path) -> list[Figure]:
    """Accuracy of each batch by what was done, means over seeds, and when the charts alarm."""
    batches = [read(folder / f"batch{number}.dat.gz") for number in BATCHES]
    scores = np.array([compared(batches, seed) for seed in range(SEEDS)]).mean(0)
    found = []
    for number, row, machine in zip(BATCHES[1:], scores, VECTOR_MACHINE, strict=True):
        found += [
            figure(f"gas batch {number}: {name}", value, "%")
            for name, value in zip(WAYS, row, strict=True)
        ]
        found.append(figure(f"gas batch {number}: support vector machine", machine, "%"))
    frozen = float(scores[:, 0].mean())
    found.append(figure(f"gas, mean: {WAYS[0]}", frozen, "%"))
    found += [
        at_least(f"gas, mean: {name}", float(scores[:, place].mean()), "%", frozen)
        for place, name in enumerate(WAYS[1:], 1)
    ]
    return found + noticed(batches)


WAYS = ("frozen", "recalibrated", f"head by {LABELS} labels", f"both, {LABELS} labels")


def compared(batches: list[Batch], seed: int) -> list[list[float]]:
    """Accuracy (batches 2 to 5, ways) in per cent."""
    job = a_job()
    model = trained(job, batches[0], seed)
    vector, manifest = model.vector.copy(), model.manifest
    normaliser = Normaliser.of(job, manifest, vector)
    past = tally(normaliser, batches[0][0])
    found = []
    for windows, truth in batches[1:]:
        chosen = np.random.default_rng(seed).permutation(len(truth))[:LABELS]
        rest = np.setdiff1d(np.arange(len(truth)), chosen)
        made, _ = normaliser.anew(past, tally(normaliser, windows))
        recalibrated = made.placed(manifest, vector)
        ways = [vector, recalibrated]
        ways += [headed(model, each, windows, truth, chosen) for each in ways]
        found.append([accuracy(model, each, windows[rest], truth[rest]) for each in ways])
    return found


def headed(
    model: FlatModel,
    vector: Float32,
    windows: Float32,
    truth: NDArray[np.int64],
    chosen: NDArray[np.int64],
) -> Float32:
    """``vector`` with a last layer fitted to ``chosen`` labelled windows, as feedback fits it."""
    readout = readout_of(model.manifest)
    assert readout is not None
    model.load(vector)
    features = model.features(windows).astype(np.float64)
    others = np.setdiff1d(np.arange(len(truth)), chosen)
    known = Windows(features[chosen], np.eye(GASES)[truth[chosen]], features[others])
    settings = Settings("ridge", classes=True)
    return readout.put(vector, fit(known, readout.matrix(vector), settings))


def accuracy(
    model: FlatModel, vector: Float32, windows: Float32, truth: NDArray[np.int64]
) -> float:
    """Share of the classes that are right, in per cent."""
    model.load(vector)
    return 100.0 * float(np.mean(model.predict(windows).argmax(1) == truth))


def noticed(batches: list[Batch]) -> list[Figure]:
    """Windows of each batch until the input alarms, by one half of the first batch."""
    job = a_job()
    windows = batches[0][0]
    order = np.random.default_rng(0).permutation(len(windows))
    half, other = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    normaliser = Normaliser.of(job, *standardising(job, windows))
    rows = np.stack([input_row(normaliser.standardise(each)[1]) for each in windows])
    charts = calibrated(job, "input", rows[half])
    found = []
    for number, values in enumerate([windows[other], *(each for each, _ in batches[1:])]):
        for chart in charts:
            chart.state, chart.standing = chart.detector.init(), "quiet"
        wait = 0
        for place, each in enumerate(values, 1):
            row = input_row(normaliser.standardise(each)[1])
            alarmed = [chart.step(row) for chart in charts]
            if any(change and change.now == "alarmed" for change in alarmed):
                wait = place
                break
        if number == 0:
            found.append(at_most("gas, other half of batch 1: alarms", float(wait > 0), "1", 0))
        else:
            name = f"gas batch {number + 1}: windows until the alarm"
            found.append(at_most(name, float(wait or np.inf), "windows", float(len(values))))
    return found


def standardising(job: Job, windows: Float32) -> tuple[Manifest, Float32]:
    """Layout and weights of an untrained model that standardises as the first batch wants it."""
    model = fresh(job, windows, 0)
    return model.manifest, model.vector.copy()


def trained(job: Job, batch: Batch, seed: int) -> FlatModel:
    """The job's model after ``ROUNDS`` rounds' worth of work on a batch."""
    windows, truth = batch
    model = fresh(job, windows, seed)
    last = torch.zeros(len(truth), dtype=torch.bool)
    examples = Examples(torch.from_numpy(windows), torch.from_numpy(truth), last)
    fit_alone(model, job, examples, rounds=range(1, ROUNDS + 1), agent=f"nose-{seed}")
    return model


def fresh(job: Job, windows: Float32, seed: int) -> FlatModel:
    """The job's model before the first round, with the standardisation of ``windows``."""
    model = FlatModel(build(job, seed))
    standard = Standard(
        mean=(tuple(windows.mean((0, 2)).tolist()),),
        scale=(tuple(windows.std((0, 2)).tolist()),),
    )
    for tensor in model.manifest.tensors:
        place = slice(tensor.offset, tensor.offset + tensor.size)
        if tensor.name == "standardise.mean":
            model.vector[place] = np.ravel(standard.mean)
        elif tensor.name == "standardise.inverse_scale":
            model.vector[place] = standard.inverse_scale().ravel()
    return model


def tally(normaliser: Normaliser, windows: Float32) -> Tally:
    """Sums of standardised samples of all ``windows``."""
    sums = Tally.empty(normaliser.mean.shape)
    for each in windows:
        sums.add(*normaliser.standardise(each))
    return sums


def a_job() -> Job:
    """A job of 128 features and six gases."""
    signals = "".join(
        f'[[signals]]\nname = "f{number}"\nunit = "g"\nrate_hz = 1.0\n'
        for number in range(FEATURES)
    )
    classes = ", ".join(f'"gas {number}"' for number in range(GASES))
    text = (
        f'[job]\nname = "gas"\n{signals}[labels]\nclasses = [{classes}]\n[window]\nlength = 1\n'
        '[model]\narchitecture = "mlp"\n[drift]\nwatch = ["input"]\n'
    )
    return decode_job(text, "gas.toml")


def read(path: Path) -> Batch:
    """Windows (n, 128, 1) and gases (n,), from lines ``class;ppmv 1:value 2:value ...``."""
    rows, gases = [], []
    with gzip.open(path, "rt") as file:
        while line := file.readline(LARGEST_LINE):
            label, *cells = line.split()
            gases.append(int(label.partition(";")[0]) - 1)
            rows.append([float(cell.partition(":")[2]) for cell in cells])
    return np.array(rows, np.float32)[:, :, None], np.array(gases, np.int64)
