# SPDX-License-Identifier: Apache-2.0
"""Rules about jobs that learn without labels: to give back what they are given."""

from collections.abc import Iterator

from msgspec import structs

from fedmill_shared.job import Job, Labels
from fedmill_shared.job.model import Autoencoder, Pca
from fedmill_shared.toml.faults import Fault, value_fault

_CLASSES = ("resample", "known_classes_only", "adjustment", "focal_gamma")
"""Fields of the learning that are about classes."""


def reconstruction_faults(job: Job) -> Iterator[Fault]:
    """What of ``job``, a reconstruction or one with a model for that, cannot be."""
    if job.needs_labels:
        problem = "an autoencoder gives its input back, and predicts nothing else"
        if isinstance(job.model, Pca):
            problem = "principal components tell how unusual a window is, and predict nothing"
        remedy = 'write task = "reconstruction", or another architecture below [model]'
        yield value_fault(("job", "task"), job.job.task, problem, remedy)
        return
    if not isinstance(job.model, Autoencoder | Pca):
        name = type(job.model).__name__.lower()
        problem = "it predicts classes or numbers, and gives no input back"
        remedy = 'write architecture = "autoencoder" or "pca" below [model]'
        yield value_fault(("model", "architecture"), name, problem, remedy)
    yield from _label_faults(job)
    yield from _learning_faults(job)
    yield from _input_faults(job)


def _label_faults(job: Job) -> Iterator[Fault]:
    usual = Labels()
    for field in structs.fields(Labels):
        value = getattr(job.labels, field.name)
        if value != getattr(usual, field.name):
            problem, remedy = "a reconstruction learns without labels", "remove the table [labels]"
            yield value_fault(("labels", field.encode_name), value, problem, remedy)
            return


def _learning_faults(job: Job) -> Iterator[Fault]:
    learning = job.learning
    if learning.loss not in ("auto", "mse"):
        problem = "what a reconstruction learns by and tells is its mean squared error"
        yield value_fault(("learning", "loss"), learning.loss, problem, 'write "auto" or "mse"')
    usual = type(learning)()
    for name in _CLASSES:
        if (value := getattr(learning, name)) != getattr(usual, name):
            problem = "a reconstruction has no classes"
            yield value_fault(("learning", name), value, problem, "remove it")


def _input_faults(job: Job) -> Iterator[Fault]:
    if job.window.normalise == "none":
        problem = "errors of signals in different units do not add up"
        remedy = 'write normalise = "global", or remove it'
        yield value_fault(("window", "normalise"), job.window.normalise, problem, remedy)
    if not isinstance(job.model, Autoencoder):
        return
    width, values = job.model.bottleneck, len(job.inputs) * job.input_length
    if width >= values:
        problem = f"the model has {values} inputs, and could just copy them"
        remedy = "write fewer" if values > 1 else "lengthen the window, or name more signals"
        yield value_fault(("model", "bottleneck"), width, problem, remedy)
