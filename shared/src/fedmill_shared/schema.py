# SPDX-License-Identifier: Apache-2.0
"""What an agent and the coordinator must agree on before anything is trained."""

from msgspec import json

from fedmill_shared.files import sha256
from fedmill_shared.job import Job
from fedmill_shared.job.later import said
from fedmill_shared.signals.units import canonical

MADE = ("from", "signal", "horizon_seconds")
"""Fields of the labels that say what a model tells; the others say only how truth is found."""


def schema_hash(job: Job) -> str:
    """SHA-256 over the model's input and output as ``job`` declares them.

    Signals (name, canonical unit, rate, role, plausible range, in order), window length and
    cut, cleaning, features, task, classes, label unit and cap, and what of its own stream a job
    foretells. Weights, learning and federation settings do not change it.

    Raises:
        SchemaError: a unit is unknown.
    """
    cleaning, features = said("cleaning", job.cleaning), said("features", job.features)
    schema = {
        "signals": [
            {
                "name": signal.name,
                "unit": canonical(signal.unit),
                "rate_hz": signal.rate_hz,
                "role": signal.role,
                **said("signals", signal),
            }
            for signal in job.signals
        ],
        "window": {
            "length": job.window.length,
            "pad": job.window.pad,
            **said("window", job.window),
        },
        "task": job.job.task,
        "labels": {
            "classes": job.labels.classes,
            "unit": canonical(job.labels.unit),
            "cap": job.labels.cap,
            **{name: value for name, value in said("labels", job.labels).items() if name in MADE},
        },
        **({"cleaning": cleaning} if cleaning else {}),
        **({"features": features} if features else {}),
    }
    return sha256(json.encode(schema, order="sorted"))
