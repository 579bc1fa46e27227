# SPDX-License-Identifier: Apache-2.0
"""The gates that a version passes on its way to serving: each a function of what it looks at.

They stand in the order of what they cost. What is compared with the model that serves is compared
window by window, so that a hard hour spoils neither of them: a difference counts where it is larger
than so many standard errors of the mean of the paired differences.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil, sqrt
from typing import Protocol

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError, SchemaError
from fedmill_shared.job import Job, Serving
from fedmill_shared.messages import Evidence, ReleaseNotice
from fedmill_shared.models.manifest import Manifest
from fedmill_shared.models.schema import METADATA_KEY, ModelSchema, read_schema
from fedmill_shared.schema import schema_hash

Floats = NDArray[np.float64]
MOST_FEATURES = 1 << 16
"""Numbers of a window that a last layer works on."""


class Gate(StrEnum):
    """Where a version may be refused, in the order in which they come."""

    HASH = "hash"
    SIGNATURE = "signature"
    SCHEMA = "schema"
    GRAPH = "graph"
    NUMBERS = "numbers"
    CANARY = "canary"
    BUDGET = "budget"
    ERROR = "error"
    SHADOW = "shadow"
    SOAK = "soak"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says.

    Attributes:
        gate: its name.
        ok: whether the version may go on.
        reason: why not, with the figures.
        evidence: what was measured, with units in the names.
    """

    gate: Gate
    ok: bool = True
    reason: str = ""
    evidence: Evidence = field(default_factory=dict)


class Refused(ModelError):  # noqa: N818  named for what happened
    """A version may not serve here; ``verdict`` says why."""

    def __init__(self, verdict: Verdict, *, remedy: str = "") -> None:
        """The message is the verdict's reason."""
        super().__init__(verdict.reason, remedy=remedy)
        self.verdict = verdict


class Verifier(Protocol):
    """Says whether a release comes from whom this agent trusts.

    Attributes:
        signed: whether only releases serve, and what a version says of itself counts for nothing.
    """

    signed: bool

    def verify(self, notice: ReleaseNotice) -> None:
        """Return if it does.

        Raises:
            ModelError: it does not, and why.
        """

    def permits(self, job: str, graph: str) -> bool:
        """Whether ``graph``, the digest of an int8 form, may score windows of ``job``."""
        ...


class Unsigned:
    """For an agent without keys: a release that carries no signature is taken as it comes."""

    signed = False

    def verify(self, notice: ReleaseNotice) -> None:
        """Return unless ``notice`` is signed.

        Raises:
            ModelError: it is, and nobody here can check by whom.
        """
        if notice.signature:
            raise ModelError(
                f"release {notice.release} is signed, and this agent has no key to check it by",
                remedy="give the agent the key, or release without a signature",
            )

    def permits(self, _job: str, _graph: str) -> bool:
        """Yes."""
        return True


@contextmanager
def at(gate: Gate) -> Iterator[None]:
    """What a model is refused for inside is refused at ``gate``."""
    try:
        yield
    except Refused:
        raise
    except ModelError as error:
        raise Refused(Verdict(gate, ok=False, reason=error.message), remedy=error.remedy) from error


def demand(verdict: Verdict) -> Evidence:
    """What was measured, unless it is not enough.

    Raises:
        Refused: it is not.
    """
    if not verdict.ok:
        raise Refused(verdict)
    return verdict.evidence


def schema(job: Job, manifest: Manifest, metadata: Mapping[str, str]) -> Verdict:
    """Whether a template with this ``metadata`` takes and gives what ``job`` does.

    The units count, and all that the schema hash of the job counts.
    """
    try:
        told = read_schema(metadata)
        theirs = schema_hash(_as_told(job, told))
    except (ModelError, SchemaError) as error:
        return Verdict(Gate.SCHEMA, ok=False, reason=error.message)
    problems = []
    if theirs != schema_hash(job):
        problems += [
            f"{what} is {theirs}, the job's is {ours}"
            for what, theirs, ours in _differing(job, told)
        ]
        problems = problems or [f"what its {METADATA_KEY} metadata says is not the job's"]
    if told.elements != manifest.size:
        problems.append(f"it has {told.elements} weights, its manifest {manifest.size}")
    return Verdict(Gate.SCHEMA, ok=not problems, reason="; ".join(problems))


def width(job: Job, outputs: int | None, features: int | None) -> Verdict:
    """Whether a graph gives as many ``outputs`` for each window as the job wants, and no flood.

    What it says of itself in its metadata is no proof: classes are looked up by position, and there
    is room in memory for all ``features``.
    """
    if features is not None and features > MOST_FEATURES:
        reason = f"its graph tells {features} features of a window, at most {MOST_FEATURES} are"
        return Verdict(Gate.SCHEMA, ok=False, reason=reason)
    reason = f"its graph gives {outputs} outputs for a window, the job wants {job.outputs}"
    return Verdict(Gate.SCHEMA, ok=outputs == job.outputs, reason=reason)


def finite(what: str, values: NDArray[np.float32]) -> Verdict:
    """Whether all of ``values`` (any shape) are numbers."""
    wrong = int(values.size - np.isfinite(values).sum())
    reason = f"{wrong} of {values.size} {what} are no finite numbers" if wrong else ""
    return Verdict(Gate.NUMBERS, ok=not wrong, reason=reason)


def budget(serving: Serving, seconds: Sequence[float], added_bytes: int) -> Verdict:
    """Whether a model is as fast and as small as the job wants.

    Args:
        serving: of the job; 0 is no limit.
        seconds: of windows that were scored one by one.
        added_bytes: by how much the process has grown with it.
    """
    slow, large = quantile_ms(seconds), added_bytes / 2**20
    problems = []
    if serving.budget_ms and slow > serving.budget_ms:
        problems.append(
            f"99 of 100 windows take up to {slow:.3g} ms, "
            f"serving.budget_ms is {serving.budget_ms:g}"
        )
    if serving.budget_mib and large > serving.budget_mib:
        problems.append(f"it adds {large:.3g} MiB, serving.budget_mib is {serving.budget_mib:g}")
    evidence = {"latency_p99_ms": slow, "memory_added_mib": large}
    return Verdict(Gate.BUDGET, ok=not problems, reason="; ".join(problems), evidence=evidence)


def quantile_ms(seconds: Sequence[float]) -> float:
    """The 99 % quantile in ms, by the nearest rank: one of the values."""
    return 1e3 * sorted(seconds)[ceil(0.99 * len(seconds)) - 1]


def error(serving: Serving, new: Floats, old: Floats) -> Verdict:
    """Whether the errors of a model (n,) are no worse than those (n,) of the one that serves.

    Both are of the same windows: 0 or 1 of a class, the size of the error of a number, or the mean
    squared error of a reconstruction.
    """
    count = len(new)
    if count < serving.min_labels:
        return Verdict(Gate.ERROR, evidence={"labelled_windows": float(count)})
    if not np.isfinite(new).all():
        return Verdict(Gate.ERROR, ok=False, reason="its error on labelled windows is no number")
    if not np.isfinite(old).all():  # whatever gives numbers is better
        evidence = {"labelled_windows": float(count), "error_new": float(new.mean())}
        return Verdict(Gate.ERROR, evidence=evidence)
    worse, spread = paired(new - old)
    evidence = {
        "labelled_windows": float(count),
        "error_new": float(new.mean()),
        "error_serving": float(old.mean()),
        "error_standard_error": spread,
    }
    reason = (
        f"its error on {count} labelled windows is {new.mean():.4g}, that of the serving model "
        f"{old.mean():.4g}: worse by {worse:.3g}, allowed {serving.error_slack:g} standard errors "
        f"of {spread:.3g}"
    )
    ok = worse <= serving.error_slack * spread
    return Verdict(Gate.ERROR, ok=ok, reason="" if ok else reason, evidence=evidence)


def paired(differences: Floats) -> tuple[float, float]:
    """Mean of ``differences`` (n,), and its standard error."""
    count = len(differences)
    spread = float(differences.std(ddof=1)) / sqrt(count) if count > 1 else 0.0
    return float(differences.mean()), spread


def _as_told(job: Job, told: ModelSchema) -> Job:
    """``job`` with all that a template tells of itself."""
    return structs.replace(
        job,
        job=structs.replace(job.job, task=told.task),
        signals=list(told.signals),
        window=told.window,
        cleaning=told.cleaning,
        features=told.features,
        labels=structs.replace(job.labels, classes=list(told.classes), unit=told.label_unit),
    )


def _differing(job: Job, told: ModelSchema) -> Iterator[tuple[str, object, object]]:
    """What the two say of the same thing, where it is not the same."""
    theirs, ours = list(told.signals), list(job.signals)
    names = [signal.name for signal in theirs], [signal.name for signal in ours]
    pairs: list[tuple[str, object, object]] = [("names of the signals", *names)]
    if names[0] == names[1]:
        for one, other in zip(theirs, ours, strict=True):
            pairs += [
                (f"{name} of signal {one.name}", getattr(one, name), getattr(other, name))
                for name in one.__struct_fields__
            ]
    for part in ("window", "cleaning", "features"):
        here, there = getattr(job, part), getattr(told, part)
        pairs += [
            (f"{part}.{name}", getattr(there, name), getattr(here, name))
            for name in here.__struct_fields__
        ]
    pairs += [
        ("task", told.task, job.job.task),
        ("classes", list(told.classes), job.labels.classes),
        ("unit of the label", told.label_unit, job.labels.unit),
    ]
    return (each for each in pairs if each[1] != each[2])
