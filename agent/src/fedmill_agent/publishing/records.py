# SPDX-License-Identifier: Apache-2.0
"""What is told of a prediction and of an alarm, as JSON."""

from hashlib import blake2b

import numpy as np
from msgspec import UNSET, DecodeError, Raw, Struct, UnsetType, field, json

from fedmill_agent.sources.timeline import utc
from fedmill_agent.store.alarms import AlarmRow
from fedmill_agent.store.predictions import Prediction
from fedmill_shared.job import Job

Number = float | UnsetType


class Origin(Struct, frozen=True, kw_only=True):
    """Who tells it, and of what.

    Attributes:
        id: the same whenever this is told again.
        agent: who tells it.
        job: of which job.
        time: source time, ISO 8601 UTC.
        time_ns: the same in ns since 1970.
    """

    id: str
    agent: str
    job: str
    time: str
    time_ns: int


class PredictionRecord(Origin, frozen=True, kw_only=True):
    """``out/prediction/<job>``: what a version said of one window; ``time`` is the window's end.

    Attributes:
        run: the recording, batch or life.
        unit: the machine or part.
        class_: of a classification.
        value: of a regression, in ``value_unit``; or the error of a reconstruction.
        confidence: probability of the class, or of the interval to hold the number.
        low: lower end of the interval, in the unit of the value.
        high: its upper end.
        plausible: classes that cannot be ruled out.
        good_share: share of the window's values that were good before any repair.
        version: digest of the weights that scored.
        number: how many versions came before.
        scored_ns: when it was scored, by the agent's clock, ns since 1970.
    """

    run: str
    unit: str
    class_: str | UnsetType | None = field(name="class", default=UNSET)
    value: float | UnsetType | None = UNSET
    value_unit: str | UnsetType = UNSET
    confidence: Number = UNSET
    low: Number = UNSET
    high: Number = UNSET
    plausible: tuple[str, ...] | UnsetType = UNSET
    good_share: float
    version: str
    number: int
    scored_ns: int


class AlarmMessage(Origin, frozen=True, kw_only=True):
    """``out/alarm/<job>``: a turn that an alarm took.

    Attributes:
        name: of the alarm.
        state: what it is in since ``time``.
        record: all that is said of it; null where the disk has damaged it.
    """

    name: str
    state: str
    record: Raw


def prediction(agent: str, job: Job, said: Prediction) -> bytes:
    """A prediction as JSON; what is not known is left out, and what is no number is null."""
    name = job.job.name
    classes = job.labels.classes if job.job.task == "classification" else ()
    record = PredictionRecord(
        id=identity(agent, name, said.run, said.end_ns, said.version),
        agent=agent,
        job=name,
        time=utc(said.end_ns),
        time_ns=said.end_ns,
        run=said.run,
        unit=said.unit,
        class_=said.class_of(classes) if classes else UNSET,
        value=UNSET if classes else said.value,
        value_unit=UNSET if classes else job.labels.unit,
        confidence=_known(said.confidence),
        low=_known(said.low),
        high=_known(said.high),
        plausible=UNSET if said.plausible is None else said.plausible,
        good_share=said.good_share,
        version=said.version,
        number=said.number,
        scored_ns=said.scored_ns,
    )
    return json.encode(record)


def alarm(agent: str, job: str, turn: AlarmRow) -> bytes:
    """A turn of an alarm as JSON."""
    record = AlarmMessage(
        id=identity(agent, job, turn.name, turn.state, turn.at_ns, turn.id),
        agent=agent,
        job=job,
        time=utc(turn.at_ns),
        time_ns=turn.at_ns,
        name=turn.name,
        state=turn.state,
        record=_whole(turn.record),
    )
    return json.encode(record)


def _whole(record: str) -> Raw:
    """``record``, or null: what is no JSON would spoil the message that carries it."""
    try:
        json.decode(record)
    except DecodeError:
        return Raw(b"null")
    return Raw(record.encode())


def identity(*parts: str | int) -> str:
    """A name for what ``parts`` tell apart from all else: 16 hexadecimal digits."""
    return blake2b(json.encode(parts), digest_size=8).hexdigest()


def _known(number: float | None) -> Number:
    return UNSET if number is None or not np.isfinite(number) else number
