# SPDX-License-Identifier: Apache-2.0
"""Job files read, checked across fields, and put into the one form that everybody hashes."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from fedmill_shared import toml
from fedmill_shared.errors import JobError, SchemaError
from fedmill_shared.job import Job, Wdcnn
from fedmill_shared.selector import parse
from fedmill_shared.signals import units
from fedmill_shared.toml.faults import Fault, name_of
from fedmill_shared.toml.lines import Field
from fedmill_shared.toml.words import show

LARGEST_CANONICAL = 1 << 20
"""Bytes of the largest canonical job that is decoded."""
SINCE_PROTOCOL_2 = {
    "federation": (
        "earliest_seconds",
        "patience",
        "select",
        "min_examples",
        "over_selection",
        "max_staleness",
        "staleness_exponent",
    )
}
"""Fields that software of protocol 1 does not know: left out of the canonical job at their default,
so that it takes part in every job that needs none of them."""


def load_job(path: Path) -> Job:
    """The job file at ``path``, decoded and checked.

    Raises:
        JobError: it cannot be read, is no TOML, does not fit the types or breaks a rule.
    """
    return decode_job(toml.read(path, JobError), str(path))


def decode_job(text: str, path: str) -> Job:
    """The job in ``text``, checked; ``path`` only names the file in errors.

    Raises:
        JobError: ``text`` is no TOML, does not fit the types or breaks a rule.
    """
    job = toml.decode(text, Job, path=path, error=JobError)
    for fault in _faults(job):
        raise toml.fault_error(fault, text, path, JobError)
    return job


def check(job: Job) -> None:
    """Raise JobError for the first rule between fields that ``job`` breaks."""
    for fault in _faults(job):
        raise JobError(f'job "{job.name}": {fault.message}', remedy=fault.remedy)


def canonical(job: Job) -> bytes:
    """``job`` as JSON with defaults written out and every name sorted: what is hashed.

    The defaults of ``SINCE_PROTOCOL_2`` are left out.
    """
    sections: dict[str, dict[str, object]] = msgspec.to_builtins(job)
    for section, fields in SINCE_PROTOCOL_2.items():
        defaults = msgspec.to_builtins(type(getattr(job, section))())
        for field in fields:
            if sections[section][field] == defaults[field]:
                del sections[section][field]
    return msgspec.json.encode(sections, order="sorted")


def job_from_canonical(data: bytes) -> Job:
    """The job that ``canonical`` wrote, checked.

    Raises:
        JobError: over 1 MiB, no JSON, another version's fields, or a broken rule.
    """
    if len(data) > LARGEST_CANONICAL:
        raise JobError(f"job is {len(data)} bytes, at most {LARGEST_CANONICAL} are read")
    try:
        job = msgspec.json.decode(data, type=Job, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise JobError(
            f"job cannot be decoded: {problem}",
            remedy="install the same version of fedmill on agents and coordinator",
        ) from problem
    check(job)
    return job


def json_schema() -> dict[str, object]:
    """JSON Schema (2020-12) of the job file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fedmill job",
        **msgspec.json.schema(Job),
    }


def _faults(job: Job) -> Iterator[Fault]:
    yield from _name_faults(("job", "name"), job.name)
    yield from _signal_faults(job)
    yield from _unit_faults(job)
    yield from _regime_faults(job)
    yield from _label_faults(job)
    yield from _learning_faults(job)
    yield from _model_faults(job)
    yield from _round_faults(job)
    yield from _selection_faults(job)
    yield from _split_faults(job)


def _fault(field: Field, value: object, problem: str, remedy: str) -> Fault:
    return Fault(field, f"{name_of(field)} is {show(value)}: {problem}", remedy)


def _name_faults(field: Field, name: str) -> Iterator[Fault]:
    if name.endswith("\n"):  # the pattern's $ lets one through, and names become folders
        yield _fault(field, name, "it ends in a line break", "remove the line break")


def _signal_faults(job: Job) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for index, signal in enumerate(job.signals):
        yield from _name_faults(("signals", index, "name"), signal.name)
        other = first.setdefault(signal.name, index)
        if other != index:
            problem = f"signals[{other}] has the same name"
            yield _fault(("signals", index, "name"), signal.name, problem, "rename one of the two")
        if signal.rate_hz != job.signals[0].rate_hz:
            yield _fault(
                ("signals", index, "rate_hz"),
                signal.rate_hz,
                f"signals[0] has {job.signals[0].rate_hz}, and all signals share one rate for now",
                "give all signals the same rate; sources resample",
            )
    if not job.inputs:
        yield _fault(
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
            yield _fault(field, unit, "there is no such unit", problem.remedy)


def _regime_faults(job: Job) -> Iterator[Fault]:
    normalise = job.window.normalise
    if normalise == "regime" and not job.regimes:
        yield _fault(
            ("window", "normalise"),
            normalise,
            "no signal tells the operating condition",
            'give the signals that do role = "regime", or write normalise = "global"',
        )
    if normalise != "regime" and job.regimes:
        yield _fault(
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
            yield _fault(field, classes, "a regression has no classes", "remove them")
        return
    if len(classes) < 2:
        problem = "a classification needs at least two classes"
        yield _fault(field, classes, problem, 'list them, or write task = "regression"')
    for index, name in enumerate(classes):
        if not name.strip():
            yield _fault(
                (*field, index), name, "a class needs a name", "write the labels' own text"
            )
        if name in classes[:index]:
            yield _fault((*field, index), name, "the class is listed twice", "remove one of them")
    if job.labels.cap:
        problem = "only the target of a regression can be capped"
        yield _fault(("labels", "cap"), job.labels.cap, problem, "remove it")


def _learning_faults(job: Job) -> Iterator[Fault]:
    loss, task = job.learning.loss, job.job.task
    if loss != "auto" and (loss == "cross_entropy") != (task == "classification"):
        yield _fault(
            ("learning", "loss"),
            loss,
            f"it does not measure a {task}",
            'write "auto"' + (', "mse" or "huber"' if task == "regression" else ""),
        )
    if job.learning.known_classes_only and task == "regression":
        field = ("learning", "known_classes_only")
        yield _fault(field, value=True, problem="a regression has no classes", remedy="remove it")


def _model_faults(job: Job) -> Iterator[Fault]:
    model, length = job.model, job.window.length
    if not isinstance(model, Wdcnn):
        return
    padding = max(model.kernel - model.stride, 0) // 2  # as models/wdcnn.py pads, on both sides
    if model.kernel > length + 2 * padding:
        yield _fault(
            ("model", "kernel"),
            model.kernel,
            f"it does not fit a window of {length} samples",
            "shorten the kernel or lengthen the window",
        )


def _round_faults(job: Job) -> Iterator[Fault]:
    federation = job.federation
    if 0 < federation.goal < federation.minimum:
        yield _fault(
            ("federation", "goal"),
            federation.goal,
            f"a round would close before its minimum of {federation.minimum} updates",
            "write 0 for every agent online, or at least the minimum",
        )
    if federation.earliest_seconds > federation.deadline_seconds:
        yield _fault(
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
        yield _fault(field, federation.over_selection, problem, "give a goal, or remove it")
    if 0 < federation.over_selection < 1:
        problem = "fewer agents would be asked than the goal needs"
        remedy = "write 1.3 or so, or 0 to ask all"
        yield _fault(field, federation.over_selection, problem, remedy)


def _split_faults(job: Job) -> Iterator[Fault]:
    evaluation = job.evaluation
    if evaluation.validation + evaluation.test > 1 - 1e-9:
        yield _fault(
            ("evaluation", "test"),
            evaluation.test,
            f"with validation = {evaluation.validation} nothing is left to train on",
            "let validation and test together stay below 1",
        )
