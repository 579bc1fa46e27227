# SPDX-License-Identifier: Apache-2.0
"""Rules about the labels that move what an agent serves."""

from collections.abc import Iterator

from fedmill_shared.job import Job
from fedmill_shared.job.feedback import Feedback
from fedmill_shared.toml.faults import Fault, value_fault

_USUAL = Feedback()


def feedback_faults(job: Job) -> Iterator[Fault]:
    """What of ``[feedback]`` cannot be done."""
    feedback = job.feedback
    if feedback.method == "off":
        for field in Feedback.__struct_fields__:
            value = getattr(feedback, field)
            if value != getattr(_USUAL, field):
                problem = "nothing is fitted to labels"
                yield _fault(field, value, problem, 'write method = "ridge", or remove it')
        return
    if not job.needs_labels:
        problem = "a reconstruction learns from no labels"
        yield _fault("method", feedback.method, problem, "remove it")
    elif feedback.method == "prototypes" and job.job.task != "classification":
        problem = "only classes have prototypes"
        yield _fault("method", feedback.method, problem, 'write method = "ridge"')
    if job.learning.personal == "head":
        problem = "the head stays on the agent, and is trained there in every round"
        yield _fault("method", feedback.method, problem, "remove it, or learning.personal")
    elif job.learning.personal != "none" or job.serving.candidates == "best":
        problem = "agents of this job serve models of their own, and labels move the common one"
        remedy = "remove it, or learning.personal and serving.candidates"
        yield _fault("method", feedback.method, problem, remedy)


def _fault(field: str, value: object, problem: str, remedy: str) -> Fault:
    return value_fault(("feedback", field), value, problem, remedy)
