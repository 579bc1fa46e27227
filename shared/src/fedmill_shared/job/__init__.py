# SPDX-License-Identifier: Apache-2.0
"""The job file: one learning task, declared in one TOML file.

The types of this package are the whole truth: decoding, validation, the JSON Schema (``fedmill job
schema``) and ``docs/job-reference.md`` are all derived from them.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from fedmill_shared.job.alarms import Alarm
from fedmill_shared.job.compression import CodecName, Compression
from fedmill_shared.job.data import Cleaning, Labels, Signal, Task, Window, window_rate
from fedmill_shared.job.drift import Drift
from fedmill_shared.job.evaluation import Evaluation, Serving
from fedmill_shared.job.features import Channel, Features, channels, input_length
from fedmill_shared.job.federation import Federation, Robustness
from fedmill_shared.job.feedback import Feedback
from fedmill_shared.job.learning import Learning
from fedmill_shared.job.model import Autoencoder, Gru, Mlp, Model, Norm, Pca, Wdcnn
from fedmill_shared.job.monitoring import Monitoring
from fedmill_shared.job.rollout import Rollout

__all__ = [
    "Alarm",
    "Autoencoder",
    "Channel",
    "Cleaning",
    "CodecName",
    "Compression",
    "Drift",
    "Evaluation",
    "Features",
    "Federation",
    "Feedback",
    "Gru",
    "Job",
    "Labels",
    "Learning",
    "Mlp",
    "Model",
    "Monitoring",
    "Norm",
    "Pca",
    "Robustness",
    "Rollout",
    "Serving",
    "Signal",
    "Task",
    "Wdcnn",
    "Window",
]


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole job file."""

    job: Task
    signals: Annotated[list[Signal], Meta(min_length=1, max_length=256)]
    window: Window = Window()
    cleaning: Cleaning = Cleaning()
    features: Features = Features()
    labels: Labels = Labels()
    model: Model = msgspec.field(default_factory=Mlp)
    learning: Learning = Learning()
    federation: Federation = Federation()
    compression: Compression = Compression()
    robustness: Robustness = Robustness()
    evaluation: Evaluation = Evaluation()
    serving: Serving = Serving()
    rollout: Rollout = Rollout()
    drift: Drift = Drift()
    feedback: Feedback = Feedback()
    alarms: Annotated[list[Alarm], Meta(max_length=32)] = []
    monitoring: Monitoring = Monitoring()

    @property
    def name(self) -> str:
        """Name of the job."""
        return self.job.name

    @property
    def rate_hz(self) -> float:
        """Samples per second of a window."""
        return window_rate(self.signals)

    @property
    def channels(self) -> list[Channel]:
        """The rows of the model's input: the signals, or features of them."""
        return channels(self.signals, self.window, self.features)

    @property
    def input_length(self) -> int:
        """Values of each row of the model's input."""
        return input_length(self.window, self.features)

    @property
    def inputs(self) -> list[int]:
        """Positions of the rows of the model's input that feed the network."""
        return [i for i, channel in enumerate(self.channels) if channel.role == "input"]

    @property
    def regimes(self) -> list[int]:
        """Positions of the rows of the model's input that tell the operating condition."""
        return [i for i, channel in enumerate(self.channels) if channel.role == "regime"]

    @property
    def resolution(self) -> list[float]:
        """How near two values of each of ``regimes`` belong to one condition."""
        return [channel.resolution for channel in self.channels if channel.role == "regime"]

    @property
    def outputs(self) -> int:
        """Width of the model's output: one per class, or one number."""
        return len(self.labels.classes) if self.job.task == "classification" else 1

    @property
    def needs_labels(self) -> bool:
        """Whether a window is learned from only where its truth is known."""
        return self.job.task != "reconstruction"

    @property
    def learns_from(self) -> str:
        """What an agent trains on, in words."""
        return "labelled training windows" if self.needs_labels else "training windows"

    @property
    def stride(self) -> int:
        """Samples between window starts."""
        return self.window.stride or self.window.length
