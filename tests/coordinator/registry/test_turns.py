# SPDX-License-Identifier: Apache-2.0
"""Turns: who is sent which blocks next, whatever anybody asks for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.registry.turns import BLOBS_PER_AGENT, EVERYBODY, Turn, Turns
from fedmill_shared.link.blocks import TRANSFER_WINDOW

AGENTS = st.sampled_from([EVERYBODY, "a", "b"])
BLOBS = st.sampled_from(["x", "y", "z"])
QUESTIONS = st.lists(st.tuples(AGENTS, BLOBS, st.lists(st.integers(0, 99), max_size=30)))


def drain(turns: Turns, limit: int = 1000) -> list[Turn]:
    """All turns, each of at most ``limit`` blocks."""
    found = []
    while (turn := turns.next(limit)) is not None:
        found.append(turn)
    return found


def test_a_window_each_round_and_round() -> None:
    """A long broadcast and two agents share the line; nobody waits for the end of another."""
    turns = Turns()
    turns.ask(EVERYBODY, "x", range(20))
    turns.ask("a", "x", range(8))
    turns.ask("b", "x", [3])
    turns.ask("b", "y", [5])
    found = [(turn.agent, turn.blob, turn.indices) for turn in drain(turns)]
    assert found == [
        (EVERYBODY, "x", list(range(8))),
        ("a", "x", list(range(8))),
        ("b", "x", [3]),
        (EVERYBODY, "x", list(range(8, 16))),
        ("b", "y", [5]),
        (EVERYBODY, "x", list(range(16, 20))),
    ]


@given(questions=QUESTIONS, limit=st.integers(1, 20))
def test_the_last_question_is_answered_whole(
    questions: list[tuple[str, str, list[int]]], limit: int
) -> None:
    """Of each agent and blob the newest question, in order, and nothing else."""
    turns = Turns()
    wanted: dict[tuple[str, str], list[int]] = {}
    for agent, blob, indices in questions:
        turns.ask(agent, blob, indices)
        if indices:
            wanted[agent, blob] = indices
    found: dict[tuple[str, str], list[int]] = {}
    for turn in drain(turns, limit):
        assert 1 <= len(turn.indices) <= min(limit, TRANSFER_WINDOW)
        found.setdefault((turn.agent, turn.blob), []).extend(turn.indices)
    assert found == wanted


@pytest.mark.parametrize("limit", [0, -1])
def test_no_room(limit: int) -> None:
    """Nothing is taken, nothing is lost."""
    turns = Turns()
    turns.ask("a", "x", [1])
    assert turns.next(limit) is None
    assert drain(turns) == [Turn("a", "x", [1])]


def test_a_flood_is_bounded() -> None:
    """Of a hundred blobs the last eight are served; another agent does not notice."""
    turns = Turns()
    turns.ask("b", "x", [1])
    for number in range(100):
        turns.ask("a", f"blob {number}", range(8))
    found = drain(turns)
    assert Counter(turn.agent for turn in found) == {"a": BLOBS_PER_AGENT, "b": 1}
    assert found[0] == Turn("b", "x", [1])
    assert {turn.blob for turn in found[1:]} == {f"blob {n}" for n in range(92, 100)}


def test_only_what_is_kept_is_served() -> None:
    """Blobs that are not on offer any more are forgotten, and so is who asked for nothing else."""
    turns = Turns()
    turns.ask(EVERYBODY, "old", [1])
    turns.ask("a", "old", [1])
    turns.ask("a", "new", [2])
    turns.keep({"new"})
    assert drain(turns) == [Turn("a", "new", [2])]
