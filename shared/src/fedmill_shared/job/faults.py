# SPDX-License-Identifier: Apache-2.0
"""Rules between the fields of a job file, each broken one told with its remedy."""

from collections.abc import Iterator

from fedmill_shared.errors import JobError, SchemaError
from fedmill_shared.job import Drift, Feedback, Job, Rollout
from fedmill_shared.job.clusters import cluster_faults
from fedmill_shared.job.combinations import combination_faults
from fedmill_shared.job.features import grid_of
from fedmill_shared.job.labelling import labelling_faults
from fedmill_shared.job.model import Autoencoder, Pca, Wdcnn
from fedmill_shared.job.quality import quality_faults
from fedmill_shared.job.shaping import shaping_faults
from fedmill_shared.selector import parse
from fedmill_shared.signals import units
from fedmill_shared.toml.faults import Fault, name_of, value_fault
from fedmill_shared.toml.lines import Field

CLASS_LOSSES = frozenset({"cross_entropy", "logit_adjusted", "focal"})


def faults(job: Job) -> Iterator[Fault]:
    """Every rule between fields that ``job`` breaks, the first ones first."""
    yield from _name_faults(("job", "name"), job.name)
    yield from _name_faults(("federation", "start"), job.federation.start)
    yield from _signal_faults(job)
    yield from quality_faults(job)
    yield from shaping_faults(job)
    yield from _unit_faults(job)
    yield from _regime_faults(job)
    if not job.needs_labels or isinstance(job.model, Autoencoder | Pca):
        from fedmill_shared.job.reconstruction import (  # noqa: PLC0415  few jobs need it
            reconstruction_faults,
        )

        yield from reconstruction_faults(job)
    if isinstance(job.model, Pca):
        from fedmill_shared.job.pca import pca_faults  # noqa: PLC0415  few jobs need it

        yield from pca_faults(job)
    if job.needs_labels:
        yield from _monitoring_faults(job)
        yield from _label_faults(job)
        yield from labelling_faults(job)
        yield from _learning_faults(job)
    yield from _model_faults(job)
    yield from _round_faults(job)
    yield from _selection_faults(job)
    yield from _split_faults(job)
    yield from cluster_faults(job)
    yield from combination_faults(job)
    yield from _rarer_faults(job)


def _rarer_faults(job: Job) -> Iterator[Fault]:
    """Of sections that few jobs have: their rules are read where they are there."""
    if job.alarms:
        from fedmill_shared.job.alarm_faults import alarm_faults  # noqa: PLC0415  few jobs have any

        for index, alarm in enumerate(job.alarms):
            yield from _name_faults(("alarms", index, "name"), alarm.name)
        yield from alarm_faults(job)
    if job.drift != Drift():
        from fedmill_shared.job.drift_faults import drift_faults  # noqa: PLC0415  few jobs need it

        yield from drift_faults(job)
    if job.feedback != Feedback():
        from fedmill_shared.job.feedback_faults import (  # noqa: PLC0415  few jobs need it
            feedback_faults,
        )

        yield from feedback_faults(job)
    if job.rollout != Rollout():
        from fedmill_shared.job.rings import rollout_faults  # noqa: PLC0415  few jobs need it

        yield from rollout_faults(job)


def _name_faults(field: Field, name: str) -> Iterator[Fault]:
    if name.endswith("\n"):  # the pattern's $ lets one through, and names become folders
        yield value_fault(field, name, "it ends in a line break", "remove the line break")


def _signal_faults(job: Job) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, signal in enumerate(job.signals):
        yield from _name_faults(("signals", index, "name"), signal.name)
        other = first.setdefault(signal.name, index)
        if other != index:
            problem = f"signals[{other}] has the same name"
            yield value_fault(
                ("signals", index, "name"), signal.name, problem, "rename one of the two"
            )
    if all(signal.role == "regime" for signal in job.signals):
        yield value_fault(
            ("signals", 0, "role"),
            job.signals[0].role,
            "no signal of the job feeds the network",
            'give at least one signal role = "input"',
        )


def _unit_faults(job: Job) -> Iterator[Fault]:
    fields: list[tuple[Field, str]] = [
        (("signals", index, "unit"), signal.unit) for index, signal in enumerate(job.signals)
    ]
    for field, unit in [*fields, (("labels", "unit"), job.labels.unit)]:
        try:
            units.canonical(unit)
        except SchemaError as problem:
            yield value_fault(field, unit, "there is no such unit", problem.remedy)


def _regime_faults(job: Job) -> Iterator[Fault]:
    normalise = job.window.normalise
    if normalise == "regime" and not job.regimes:
        yield value_fault(
            ("window", "normalise"),
            normalise,
            "no signal tells the operating condition",
            'give the signals that do role = "regime", or write normalise = "global"',
        )
    if normalise != "regime" and job.regimes:
        yield value_fault(
            ("signals", job.regimes[0], "role"),
            "regime",
            f'window.normalise is "{normalise}" and would ignore the operating condition',
            'write normalise = "regime" below [window], or make the signal an input',
        )


def _label_faults(job: Job) -> Iterator[Fault]:
    classes = job.labels.classes
    field = ("labels", "classes")
    if job.job.task == "regression":
        if classes:
            yield value_fault(field, classes, "a regression has no classes", "remove them")
        return
    if len(classes) < 2:
        problem = "a classification needs at least two classes"
        yield value_fault(field, classes, problem, 'list them, or write task = "regression"')
    for index, name in enumerate(classes):
        if not name.strip():
            yield value_fault(
                (*field, index), name, "a class needs a name", "write the labels' own text"
            )
        if name in classes[:index]:
            yield value_fault(
                (*field, index), name, "the class is listed twice", "remove one of them"
            )
    if job.labels.cap:
        problem = "only the target of a regression can be capped"
        yield value_fault(("labels", "cap"), job.labels.cap, problem, "remove it")


def _learning_faults(job: Job) -> Iterator[Fault]:
    loss, task = job.learning.loss, job.job.task
    if loss != "auto" and (loss in CLASS_LOSSES) != (task == "classification"):
        yield value_fault(
            ("learning", "loss"),
            loss,
            f"it does not measure a {task}",
            'write "auto"' + (', "mse" or "huber"' if task == "regression" else ""),
        )
    if job.learning.known_classes_only and task == "regression":
        field = ("learning", "known_classes_only")
        yield value_fault(
            field, value=True, problem="a regression has no classes", remedy="remove it"
        )


def _monitoring_faults(job: Job) -> Iterator[Fault]:
    usual = type(job.monitoring)()
    for name in job.monitoring.__struct_fields__:
        if (value := getattr(job.monitoring, name)) != getattr(usual, name):
            problem = f"a {job.job.task} is told by its labels what is abnormal"
            remedy = 'remove the table [monitoring], or write task = "reconstruction"'
            yield value_fault(("monitoring", name), value, problem, remedy)
            return


def _model_faults(job: Job) -> Iterator[Fault]:
    model, length = job.model, grid_of(job.signals, job.window).length
    if not isinstance(model, Wdcnn):
        return
    padding = max(model.kernel - model.stride, 0) // 2  # as models/wdcnn.py pads, on both sides
    if model.kernel > length + 2 * padding:
        yield value_fault(
            ("model", "kernel"),
            model.kernel,
            f"it does not fit a window of {length} samples",
            "shorten the kernel or lengthen the window",
        )


def _round_faults(job: Job) -> Iterator[Fault]:
    federation = job.federation
    if 0 < federation.goal < federation.minimum:
        yield value_fault(
            ("federation", "goal"),
            federation.goal,
            f"a round would close before its minimum of {federation.minimum} updates",
            "write 0 for every agent online, or at least the minimum",
        )
    if federation.earliest_seconds > federation.deadline_seconds:
        yield value_fault(
            ("federation", "earliest_seconds"),
            federation.earliest_seconds,
            f"it lies behind deadline_seconds = {federation.deadline_seconds}",
            "let it be shorter than the deadline",
        )


def _selection_faults(job: Job) -> Iterator[Fault]:
    federation = job.federation
    if federation.select:
        try:
            parse(federation.select)
        except JobError as fault:
            field = ("federation", "select")
            yield Fault(field, f"{name_of(field)}: {fault.message}", fault.remedy)
    field = ("federation", "over_selection")
    if federation.over_selection and not federation.goal:
        problem = "it multiplies federation.goal, which is 0"
        yield value_fault(field, federation.over_selection, problem, "give a goal, or remove it")
    if 0 < federation.over_selection < 1:
        problem = "fewer agents would be asked than the goal needs"
        remedy = "write 1.3 or so, or 0 to ask all"
        yield value_fault(field, federation.over_selection, problem, remedy)


def _split_faults(job: Job) -> Iterator[Fault]:
    evaluation = job.evaluation
    if evaluation.validation + evaluation.test > 1 - 1e-9:
        yield value_fault(
            ("evaluation", "test"),
            evaluation.test,
            f"with validation = {evaluation.validation} nothing is left to train on",
            "let validation and test together stay below 1",
        )
