# SPDX-License-Identifier: Apache-2.0
"""Rules about when the predictions of a job are an alarm."""

from collections.abc import Iterator

from fedmill_shared.job import Alarm, Job
from fedmill_shared.nearest import nearest
from fedmill_shared.toml.faults import Fault, value_fault
from fedmill_shared.toml.lines import Field


def alarm_faults(job: Job) -> Iterator[Fault]:
    """What of the alarms of ``job`` cannot be."""
    first: dict[str, int] = {}
    for index, alarm in enumerate(job.alarms):
        field: Field = ("alarms", index)
        other = first.setdefault(alarm.name, index)
        if other != index:
            problem = f"alarms[{other}] has the same name"
            yield value_fault((*field, "name"), alarm.name, problem, "rename one of the two")
        if job.job.task == "classification":
            yield from _class_faults(field, alarm, job.labels.classes)
        else:
            yield from _number_faults(field, alarm, job.job.task)


def _class_faults(field: Field, alarm: Alarm, classes: list[str]) -> Iterator[Fault]:
    for name, value in (("above", alarm.above), ("below", alarm.below), ("clear", alarm.clear)):
        if value is not None:
            problem = "a classification predicts no number"
            yield value_fault((*field, name), value, problem, "remove it, and list classes")
    if not alarm.classes:
        problem = "no class raises it"
        remedy = f"list some of the job's: {', '.join(classes[:20])}"
        yield value_fault((*field, "classes"), alarm.classes, problem, remedy)
    for index, name in enumerate(alarm.classes):
        place = (*field, "classes", index)
        if name not in classes:
            near = nearest(name, classes)
            remedy = f"did you mean {near}?" if near else f"write one of {', '.join(classes[:20])}"
            yield value_fault(place, name, "the job has no such class", remedy)
        elif name in alarm.classes[:index]:
            yield value_fault(place, name, "the class is listed twice", "remove one of them")


def _number_faults(field: Field, alarm: Alarm, task: str) -> Iterator[Fault]:
    if alarm.classes:
        problem = f"a {task} has no classes"
        yield value_fault((*field, "classes"), alarm.classes, problem, "write above or below")
    if alarm.least_confidence:
        problem = "only a class has a probability"
        place = (*field, "least_confidence")
        yield value_fault(place, alarm.least_confidence, problem, "remove it")
    if alarm.above is None and alarm.below is None and not alarm.classes:
        problem = "no number raises it"
        remedy = "write above or below, in the unit of the prediction"
        yield value_fault((*field, "name"), alarm.name, problem, remedy)
    if alarm.above is not None and alarm.below is not None and alarm.above <= alarm.below:
        problem = f"with below = {alarm.below} every number raises it"
        remedy = "let above be the larger one, or write only one of them"
        yield value_fault((*field, "above"), alarm.above, problem, remedy)
    yield from _clear_faults((*field, "clear"), alarm)


def _clear_faults(field: Field, alarm: Alarm) -> Iterator[Fault]:
    above, below, clear = alarm.above, alarm.below, alarm.clear
    if clear is None or (above is None and below is None):
        return
    if above is not None and below is not None:
        problem = "one number cannot end what is above and what is below"
        yield value_fault(field, clear, problem, "make two alarms of it, or remove it")
    elif above is not None and clear > above:
        remedy = "write a smaller number, or remove it"
        yield value_fault(field, clear, f"it lies above {above}, which raises it", remedy)
    elif below is not None and clear < below:
        remedy = "write a larger number, or remove it"
        yield value_fault(field, clear, f"it lies below {below}, which raises it", remedy)
