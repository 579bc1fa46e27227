# SPDX-License-Identifier: Apache-2.0
"""Two models on the same windows, as they come: how far they agree, and whether one is worse.

Sums alone are kept, so that a million windows take no more room than one.
"""

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fedmill_agent.alarms import condition as alarms
from fedmill_agent.inference.installing.gates import Gate, Verdict
from fedmill_agent.probabilities import probabilities
from fedmill_shared.job import Job, Pca

FEW = 20
"""Windows from which on a model may be called worse before all windows have come."""
ERRORS = 3.0
"""Standard errors by which a model must be worse to be gone back from."""
MARGIN = 0.1
"""And by so much of its confidence, or of its share of windows that are an alarm."""
SLOW_SHARE = 0.01
"""Of the windows may take longer than the budget, and chance on top of it."""

Outputs = NDArray[np.float32]


class _Mean:
    """Owns the sums of paired differences."""

    def __init__(self) -> None:
        self.count, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        self.count += len(values)
        self._sum += float(values.sum())
        self._squares += float(np.square(values).sum())

    @property
    def value(self) -> float:
        return self._sum / self.count if self.count else 0.0

    @property
    def deviation(self) -> float:
        """Of the values from their mean."""
        if self.count < 2:
            return 0.0
        return sqrt(max(self._squares - self.count * self.value**2, 0.0) / (self.count - 1))

    def rises(self) -> bool:
        """Whether it is above zero by more than chance and more than the margin."""
        error = self.deviation / sqrt(self.count) if self.count else 0.0
        return self.value > MARGIN and self.value > ERRORS * error


class Comparison:
    """Owns what two models said of the same windows.

    Attributes:
        count: windows.
    """

    def __init__(self, job: Job) -> None:
        """No window yet."""
        self._job = job
        self._alarmed = _has_alarms(job)
        self.count = 0
        self._wrong = 0
        self._slow = 0
        self._agreed = 0
        self._apart = 0.0
        self._old = _Mean()
        self._less_confident = _Mean()
        self._more_alarms = _Mean()
        self._confidence = _Mean()

    @property
    def sound(self) -> bool:
        """Whether the new model gave numbers for every window."""
        return not self._wrong

    @property
    def agreement(self) -> float:
        """Share of the windows that both call the same.

        Of a number, 1 less the root mean square of the difference over the standard deviation of
        what the old model says.
        """
        good = self.count - self._wrong
        if not good:
            return 0.0
        if self._job.job.task == "classification":
            return self._agreed / good
        apart = sqrt(self._apart / good)
        return 1.0 - apart / self._old.deviation if self._old.deviation else float(not apart)

    def add(self, new: Outputs, old: Outputs, *, slow: int = 0) -> None:
        """Both are float32 (n, outputs), in the same order of windows.

        ``slow`` of them took the new one longer than its budget.
        """
        self.count += len(new)
        self._slow += slow
        sound = np.isfinite(new).all(axis=1)
        self._wrong += len(new) - int(sound.sum())
        sound &= np.isfinite(old).all(axis=1)
        ours, theirs = new[sound].astype(np.float64), old[sound].astype(np.float64)
        if self._job.job.task == "classification":
            self._agreed += int((ours.argmax(1) == theirs.argmax(1)).sum())
            mine = confidence(ours)
            self._confidence.add(mine)
            self._less_confident.add(confidence(theirs) - mine)
        else:
            self._apart += float(np.square(ours - theirs).sum())
            self._old.add(theirs[:, 0])
        if self._alarmed:
            self._more_alarms.add(raised(self._job, ours) - raised(self._job, theirs))

    def verdict(self, gate: Gate) -> Verdict:
        """What the windows so far say: the rule is the same beside and after a swap."""
        evidence = {f"{gate}_windows": float(self.count), f"{gate}_agreement": self.agreement}
        least, problems = self._job.serving.least_agreement, []
        if self._job.job.task == "classification":
            evidence[f"{gate}_confidence"] = self._confidence.value
            evidence[f"{gate}_confidence_lost"] = self._less_confident.value
        if self._alarmed:
            evidence[f"{gate}_alarms_more"] = self._more_alarms.value
        usual = SLOW_SHARE * self.count
        if self._slow > usual + ERRORS * sqrt(usual * (1.0 - SLOW_SHARE)):
            problems.append(
                f"{self._slow} of {self.count} windows took longer than serving.budget_ms"
            )
        if self._wrong:
            problems.append(f"{self._wrong} of {self.count} windows gave no numbers")
        if least and self.agreement < least:
            problems.append(
                f"it agrees with the serving model on {self.agreement:.3g} of {self.count} "
                f"windows, serving.least_agreement is {least:g}"
            )
        if self._less_confident.rises():
            problems.append(
                f"its confidence is lower by {self._less_confident.value:.3g} on {self.count} "
                "windows"
            )
        if self._more_alarms.rises():
            problems.append(
                f"its share of windows that are an alarm is larger by "
                f"{self._more_alarms.value:.3g} on {self.count} windows"
            )
        return Verdict(gate, ok=not problems, reason="; ".join(problems), evidence=evidence)


def confidence(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest of the probabilities (n,) that ``logits`` (n, classes) stand for."""
    largest: NDArray[np.float64] = probabilities(logits).max(1)
    return largest


def raised(job: Job, outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """1.0 (n,) for each of ``outputs`` (n, k) that is an alarm of the job by itself, else 0.0."""
    classes = job.labels.classes if job.job.task == "classification" else []
    sure = confidence(outputs).tolist() if classes else [None] * len(outputs)
    said = [alarms.verdicts(alarm, classes, outputs, sure) for alarm in job.alarms]
    return np.array([alarms.Verdict.ON in each for each in zip(*said, strict=True)], np.float64)


def _has_alarms(job: Job) -> bool:
    """Whether ``raised`` tells alarms of ``job``.

    Where nobody says what is abnormal they go by scores over the agent's own limit, and a version
    that has not served has none; principal components bring one.
    """
    return bool(job.alarms) and (job.needs_labels or isinstance(job.model, Pca))
