# SPDX-License-Identifier: Apache-2.0
"""Rules about jobs whose model are principal components: exact, with nothing that bends them.

What travels are moments, and their weighted mean over the agents is that of all windows in one
place, unless a codec rounds it, a clip shortens it, or a rule makes something else of it.
"""

from collections.abc import Iterator, Mapping

from msgspec import structs

from fedmill_shared.job import Job
from fedmill_shared.job.model import Pca
from fedmill_shared.toml.faults import Fault, value_fault
from fedmill_shared.toml.words import show

MOST_INPUTS = 512
"""Inputs of a model at most: 512 are 131,328 products, and 1.6 MiB on the wire."""
CONVEX = ("mean", "geometric_median", "krum", "multi_krum")
"""Robust rules whose result is a weighted mean of updates: the moments of some windows or other."""
USUAL: Mapping[str, Mapping[str, object]] = {
    "federation": {"rounds": 1, "max_staleness": 0},
    "compression": {"uplink": "fp32", "downlink": "fp32"},
    "robustness": {"clip": 1e6, "claim": 1e6, "quarantine_rounds": 0},
}
"""What the fields are where a job file with this model leaves them out."""
_EXACT = "fp32"


def settled(job: Job, written: Mapping[str, object]) -> Job:
    """``job`` with the defaults of its model where the tables ``written`` leave a field out."""
    if not isinstance(job.model, Pca):
        return job
    sections = {}
    for name, usual in USUAL.items():
        table = written.get(name, {})
        told = table if isinstance(table, Mapping) else {}
        missing = {field: value for field, value in usual.items() if field not in told}
        sections[name] = structs.replace(getattr(job, name), **missing)
    return structs.replace(job, **sections)


def pca_faults(job: Job) -> Iterator[Fault]:
    """What of ``job``, whose model are principal components, keeps them from being exact."""
    model = job.model
    if not isinstance(model, Pca):
        return
    yield from _shape_faults(job, model)
    yield from _travel_faults(job)
    yield from _rule_faults(job)
    yield from _personal_faults(job)


def width_of(job: Job) -> int:
    """Inputs d of the principal components of ``job``."""
    whole = isinstance(job.model, Pca) and job.model.inputs == "samples"
    return len(job.inputs) * (job.input_length if whole else 1)


def _shape_faults(job: Job, model: Pca) -> Iterator[Fault]:
    width = width_of(job)
    if width > MOST_INPUTS:
        yield value_fault(
            ("model", "inputs"),
            model.inputs,
            f"the model would have {width} inputs, and at most {MOST_INPUTS} are reckoned with",
            'write inputs = "mean", shorten the window, or let [features] sum it up',
        )
    if model.components > width:
        problem = f"the model has {width} inputs, and no more components than that"
        yield value_fault(("model", "components"), model.components, problem, "write fewer")
    if job.features.steps and model.inputs == "mean":
        problem = "features stand for different things, and their mean for nothing"
        yield value_fault(("model", "inputs"), "mean", problem, 'write inputs = "samples"')


def _travel_faults(job: Job) -> Iterator[Fault]:
    compression = job.compression
    for field in ("uplink", "downlink"):
        if (codec := getattr(compression, field)) != _EXACT:
            problem = "it rounds the moments, and components of rounded moments are others"
            remedy = 'write "fp32", or remove it'
            yield value_fault(("compression", field), codec, problem, remedy)
    for field in ("dense_rounds", "plateau_rounds"):
        if rounds := getattr(compression, field):
            problem = "moments travel in fp32 in every round"
            yield value_fault(("compression", field), rounds, problem, "remove it")


def _rule_faults(job: Job) -> Iterator[Fault]:
    federation, robustness = job.federation, job.robustness
    exact: dict[tuple[str, str], tuple[object, object, str]] = {
        ("federation", "rule"): (federation.rule, "fedavg", "moments are averaged, not stepped to"),
        ("federation", "server_learning_rate"): (
            federation.server_learning_rate,
            1.0,
            "part of the way to the mean of the moments are the moments of nothing",
        ),
        ("federation", "max_staleness"): (
            federation.max_staleness,
            0,
            "a late update is the change of moments that have been replaced",
        ),
        ("robustness", "clip"): (robustness.clip, 1e6, "shortened moments are those of nothing"),
        ("robustness", "quarantine_rounds"): (
            robustness.quarantine_rounds,
            0,
            "updates are changes of moments, and those of sound plants may well be contrary",
        ),
    }
    for field, (value, wanted, problem) in exact.items():
        if value != wanted:
            remedy = f"write {show(wanted)}, or remove it"
            yield value_fault(field, value, problem, remedy)
    if robustness.rule not in CONVEX:
        yield value_fault(
            ("robustness", "rule"),
            robustness.rule,
            "what it makes of moments are the moments of no windows at all",
            f"write one of {', '.join(CONVEX)}",
        )


def _personal_faults(job: Job) -> Iterator[Fault]:
    learning, usual = job.learning, type(job.learning)()
    for name in ("proximal", "personal", "head_epochs", "ditto"):
        if (value := getattr(learning, name)) != getattr(usual, name):
            problem = "principal components are reckoned from moments, and take no training steps"
            yield value_fault(("learning", name), value, problem, "remove it")
    if job.rollout.release == "better":
        problem = "a distance from principal components is over their limit, and no error"
        yield value_fault(("rollout", "release"), "better", problem, 'write "each" or "last"')
    if job.serving.candidates != "global":
        problem = "no agent trains a model of its own to choose from"
        yield value_fault(
            ("serving", "candidates"), job.serving.candidates, problem, 'write "global"'
        )
