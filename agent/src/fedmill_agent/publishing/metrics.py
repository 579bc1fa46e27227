# SPDX-License-Identifier: Apache-2.0
"""The newest prediction of a job as metrics of Sparkplug B, ``<job>/class`` and so on."""

from collections.abc import Sequence

from msgspec import json

from fedmill_agent.sources.sparkplug.datatypes import DataType
from fedmill_agent.sources.sparkplug.payload import Metric, metric
from fedmill_agent.store.predictions import Prediction
from fedmill_shared.job import Job

Value = float | int | str | None


def metrics(job: Job, said: Prediction | None, now_ns: int) -> list[Metric]:
    """What ``said`` says, all null before the first prediction.

    The names and types are the same whatever is known, as births announce them. The time of each is
    the end of the window, or ``now_ns`` where there is none.
    """
    end_ns = now_ns if said is None else said.end_ns
    time_ms = max(0, end_ns // 10**6)
    return [
        metric(f"{job.job.name}/{name}", kind, value, time_ms=time_ms)
        for name, kind, value in [*_model(job, said), *_rest(said)]
    ]


def _model(job: Job, said: Prediction | None) -> Sequence[tuple[str, DataType, Value]]:
    """What is predicted, and how sure that is."""
    confidence = ("confidence", DataType.Double, None if said is None else said.confidence)
    if job.job.task == "classification":
        told = None if said is None else said.class_of(job.labels.classes)
        names = None if said is None or said.plausible is None else json.encode(said.plausible)
        listed = None if names is None else names.decode()
        texts = [("class", DataType.String, told), ("plausible", DataType.String, listed)]
        return [*texts, confidence]
    return [
        ("value", DataType.Double, None if said is None else said.value),
        ("low", DataType.Double, None if said is None else said.low),
        ("high", DataType.Double, None if said is None else said.high),
        confidence,
    ]


def _rest(said: Prediction | None) -> Sequence[tuple[str, DataType, Value]]:
    """Of which window and model."""
    return [
        ("unit", DataType.String, None if said is None else said.unit),
        ("good_share", DataType.Double, None if said is None else said.good_share),
        ("version", DataType.String, None if said is None else said.version),
        ("number", DataType.Int64, None if said is None else said.number),
    ]
