# SPDX-License-Identifier: Apache-2.0
"""What others read: JSON that says what the model said, of when, and how sure it is."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.publishing.metrics import metrics
from fedmill_agent.publishing.records import alarm, identity, prediction
from fedmill_agent.store.alarms import AlarmRow
from fedmill_agent.store.predictions import Prediction
from fedmill_shared.job import Job, Labels, Signal, Task, Window

SIGNALS, WINDOW = [Signal(name="heat")], Window(length=4)
CLASSES = Job(
    job=Task(name="oven"), signals=SIGNALS, window=WINDOW, labels=Labels(classes=["good", "burnt"])
)
NUMBER = Job(
    job=Task(name="life", task="regression"),
    signals=SIGNALS,
    window=WINDOW,
    labels=Labels(unit="h"),
)
END = 1_700_000_000_123_456_789


def said(*outputs: float, **fields: object) -> Prediction:
    """A prediction."""
    return Prediction("run", END, "ab" * 32, np.array(outputs, np.float32), END + 5, **fields)


class TestPrediction:
    def test_of_a_class(self) -> None:
        """All that is known, with both forms of the time."""
        sure = {"confidence": 0.9, "plausible": ("good", "burnt")}
        found = prediction(
            "gw-1", CLASSES, said(0, 1, unit="oven-1", good_share=0.5, number=7, **sure)
        )
        told = json.loads(found)
        assert told == {
            "id": told["id"],
            "agent": "gw-1",
            "job": "oven",
            "time": "2023-11-14T22:13:20.123Z",
            "time_ns": END,
            "run": "run",
            "unit": "oven-1",
            "class": "burnt",
            "confidence": 0.9,
            "plausible": ["good", "burnt"],
            "good_share": 0.5,
            "version": "ab" * 32,
            "number": 7,
            "scored_ns": END + 5,
        }

    def test_of_a_number(self) -> None:
        """Value and interval in the unit of the label."""
        told = json.loads(prediction("gw-1", NUMBER, said(12.5, low=10.0, high=15.0)))
        assert (told["value"], told["value_unit"], told["low"], told["high"]) == (
            12.5, "h", 10.0, 15.0,
        )  # fmt: skip
        assert not {"class", "confidence", "plausible"} & set(told)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_no_number_is_null(self, value: float) -> None:
        """JSON has no word for it, and readers would refuse the whole."""
        told = json.loads(prediction("gw-1", NUMBER, said(value, low=-math.inf, high=math.inf)))
        assert told["value"] is None
        assert not {"low", "high"} & set(told)

    @pytest.mark.parametrize("logits", [(math.nan, 1.0), (0.0, math.nan), (math.inf, -math.inf)])
    def test_logits_that_are_no_numbers_are_no_class(self, logits: tuple[float, ...]) -> None:
        """The position of a NaN is not what the model predicts."""
        found = said(*logits)
        assert json.loads(prediction("gw-1", CLASSES, found))["class"] is None
        shown = {each.name: each.null for each in metrics(CLASSES, found, END)}
        assert shown["oven/class"]
        shown = {each.name: each.null for each in metrics(NUMBER, found, END)}
        assert shown["life/value"] == (not math.isfinite(logits[0]))

    def test_an_empty_set_is_told(self) -> None:
        """It means that no class is plausible, which is not the same as nothing known."""
        assert json.loads(prediction("a", CLASSES, said(0, 1, plausible=())))["plausible"] == []


class TestAlarm:
    def test_its_record_is_told_as_it_is(self) -> None:
        """With its name, state and time before it."""
        row = AlarmRow(3, "hot", "raised", END, '{"number":1,"text":"größer"}')
        told = json.loads(alarm("gw-1", "oven", row))
        assert told == {
            "id": told["id"],
            "agent": "gw-1",
            "job": "oven",
            "time": "2023-11-14T22:13:20.123Z",
            "time_ns": END,
            "name": "hot",
            "state": "raised",
            "record": {"number": 1, "text": "größer"},
        }

    @pytest.mark.parametrize("record", ['{"number":1,"te', "", "{} {}", "\x00"])
    def test_a_record_that_the_disk_has_damaged(self, record: str) -> None:
        """It is null: the message is JSON all the same."""
        told = json.loads(alarm("gw-1", "oven", AlarmRow(3, "hot", "raised", END, record)))
        assert (told["name"], told["state"], told["record"]) == ("hot", "raised", None)


class TestIdentity:
    @given(
        st.lists(st.tuples(st.text(), st.integers(-(1 << 63), 1 << 63)), min_size=2, unique=True)
    )
    def test_tells_apart_what_differs(self, parts: list[tuple[str, int]]) -> None:
        """Where one part ends and the next begins counts; the same parts give the same."""
        found = [identity(*each) for each in parts]
        assert len(set(found)) == len(parts)
        assert found == [identity(*each) for each in parts]
        assert identity("a", "bc") != identity("ab", "c")
