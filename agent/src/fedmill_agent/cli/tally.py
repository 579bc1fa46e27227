# SPDX-License-Identifier: Apache-2.0
"""What a delivery is worth to a job: windows, labels, and what is missing, in words."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedmill_agent.cli.trial import Delivery
from fedmill_agent.cutter import told_faults
from fedmill_agent.sources.base import SourceOptions
from fedmill_agent.sources.files import shorten
from fedmill_agent.store.splits import shares
from fedmill_shared.errors import DataError
from fedmill_shared.job import Job

MOST_NAMES = 8
"""Labels and classes that one line names."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Windows of one source, and those with a label that the job can use, by class.

    Attributes:
        windows: good ones.
        labelled: those of them with a label for the job's task; all where it needs none.
        classes: labelled windows of each class; empty for a regression.
        extent: smallest and largest number of a regression's labels.
        learns: whether they train or test the model; windows of a live source are only scored.
        training: about how many of those with a label train it, the others are held out.
        whole: whether the source was read to its end.
    """

    windows: int
    labelled: int
    classes: Counter[str] = field(default_factory=Counter)
    extent: tuple[float, float] = (0.0, 0.0)
    learns: bool = True
    training: int = 0
    whole: bool = True


def tally(source: SourceOptions, job: Job, delivery: Delivery) -> Tally:
    """Count what ``delivery`` of ``source`` holds for ``job``."""
    truth, task = delivery.truth(), job.job.task
    known = truth.known(task)
    count, labelled, learns = len(known), int(known.sum()), source.split != "live"
    classes, extent = Counter[str](), (0.0, 0.0)
    if task == "classification":
        classes = Counter(map(str, truth.texts[known]))
    elif labelled and job.needs_labels:
        numbers = truth.numbers[known]
        extent = (float(np.min(numbers)), float(np.max(numbers)))
    return Tally(
        count,
        labelled,
        classes=classes,
        extent=extent,
        learns=learns,
        training=round(labelled * _training_share(source, job)),
        whole=delivery.whole,
    )


def source_lines(
    source: SourceOptions, job: Job, delivery: Delivery, counted: Tally
) -> Iterator[str]:
    """Windows and labels of one source, then what is missing there."""
    bad = f"{delivery.bad} are bad ({told_faults(delivery.faults)})" if delivery.bad else ""
    if not counted.windows:
        why = bad or _no_window(job)
        yield f"missing: a whole window of {job.window.length} samples; {why}"
        return
    more = f", {bad}" if bad else ""
    yield f"{counted.windows} windows{more}; {_labels(job, counted)}"
    unlabelled = counted.windows - counted.labelled
    if not counted.learns:
        yield 'they are scored, and not learned from: split is "live"'
    elif not counted.labelled and not delivery.foreign:
        why = "labels cover no whole window" if delivery.labels else _where(source, job)
        yield f"missing: labels, so nothing is learned here; {why}"
    elif unlabelled and not delivery.foreign:
        yield f"missing: labels for {unlabelled} windows, which are not learned from"


def _no_window(job: Job) -> str:
    """Why samples may come, and no window of them."""
    window, rest = job.window, "runs are shorter, or have gaps"
    if not window.trigger:
        return rest
    falling, from_where = window.trigger_edge == "falling", ""
    if window.trigger_hysteresis:
        back = window.trigger_level + window.trigger_hysteresis * (1 if falling else -1)
        from_where = f" from {'above' if falling else 'below'} {back:g}"
    crosses = f"{'falls' if falling else 'rises'} through {window.trigger_level:g}{from_where}"
    return f"{window.trigger} never {crosses}, or {rest}"


def job_lines(job: Job, tallies: Sequence[Tally], *, learns: bool) -> Iterator[str]:
    """What all sources together bring, then what is missing."""
    used = [each for each in tallies if each.learns]
    labelled = sum(each.labelled for each in used)
    windows = sum(each.windows for each in tallies)
    usable = "with a label to learn or test by" if job.needs_labels else "to learn or test by"
    yield f"job {job.name}: {windows} windows, {labelled} {usable}"
    if learns and not labelled:
        wanted = "labelled windows" if job.needs_labels else "windows to learn from"
        yield f"  missing: {wanted}; the agent would score, and take no part in rounds"
    elif learns:
        yield from _too_few(job, used)
    found = Counter[str]()
    for each in used:
        found += each.classes
    absent = [name for name in job.labels.classes if not found[name]]
    if labelled and absent:
        yield f"  missing: labels of {shorten(absent, MOST_NAMES)}, which other agents must have"


def check_labels(source: SourceOptions, job: Job, delivery: Delivery) -> None:
    """Refuse labels that the job cannot use.

    Raises:
        DataError: naming them, and what the job wants.
    """
    texts = sorted(filter(None, delivery.foreign))
    named = shorten([repr(text) for text in texts], MOST_NAMES)
    if job.job.task == "regression" and texts:
        raise DataError(
            f"source {source.name!r} labels with classes ({named}), job {job.name} learns a number",
            remedy=_kind_of_label(source, "number"),
        )
    if texts:
        problem = "is not one" if len(texts) == 1 else "are none"
        raise DataError(
            f"source {source.name!r}: label {named} {problem} of labels.classes",
            remedy=f"classes of the job: {', '.join(job.labels.classes)}",
        )
    if delivery.foreign:
        raise DataError(
            f"source {source.name!r} labels with numbers, job {job.name} learns classes",
            remedy=_kind_of_label(source, "class"),
        )


def _training_share(source: SourceOptions, job: Job) -> float:
    """The share of a source's windows that train the model, as far as it is known beforehand."""
    if source.split == "auto":
        return shares(job.evaluation)["train"]
    return float(source.split == "train")


def _too_few(job: Job, used: Sequence[Tally]) -> Iterator[str]:
    training, wanted = sum(each.training for each in used), job.federation.min_examples
    if training < wanted:
        rest = "" if all(each.whole for each in used) else "; not everything was read"
        yield f"  missing: about {training} {job.learns_from}, {wanted} wanted{rest}"


def _labels(job: Job, counted: Tally) -> str:
    if not job.needs_labels:
        return "the job needs no labels"
    if not counted.labelled:
        return "none labelled"
    if job.job.task == "regression":
        low, high = counted.extent
        return f"{counted.labelled} labelled, {low:.6g} to {high:.6g} {job.labels.unit}"
    each = [f"{name} {count}" for name, count in sorted(counted.classes.items())]
    return f"{counted.labelled} labelled: {shorten(each, MOST_NAMES)}"


def _where(source: SourceOptions, job: Job) -> str:
    """Where labels would come from."""
    if job.labels.source == "forecast":
        wanted = f"{job.labels.horizon_seconds:g} s after a window"
        return f"no good value of {job.labels.signal} comes {wanted}"
    if job.labels.source == "event":
        return "no event ends a life; see `fedmill-agent label`"
    for option in ("label_column", "label"):
        if hasattr(source, option):
            named = getattr(source, option)
            return f"`{option}` is {named!r}, and empty there" if named else f"give it `{option}`"
    return "the source tells none"


def _kind_of_label(source: SourceOptions, kind: str) -> str:
    if hasattr(source, "label_kind"):
        return f'write label_kind = "{kind}", or name another column'
    return "give this source to another job"
