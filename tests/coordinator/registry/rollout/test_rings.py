# SPDX-License-Identifier: Apache-2.0
"""Who is in a ring."""

import math

from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.registry.rollout.rings import joining, may_be_empty, reached

NAMES = st.sets(st.integers(0, 99).map(lambda number: f"gw-{number}"), max_size=40)
SEED = ("rig", 3)


class TestJoining:
    @given(there=NAMES, inside=NAMES, percent=st.integers(1, 100))
    def test_a_share_is_filled_up(self, there: set[str], inside: set[str], percent: int) -> None:
        """So many of all that are known, counting those that have it; the same ones every time."""
        labels: dict[str, dict[str, str]] = {agent: {} for agent in there}
        new = joining(f"{percent} %", labels, inside, release=SEED)
        assert new == joining(f"{percent} %", labels, inside, release=SEED)
        assert set(new) <= there - inside
        wanted = math.ceil(percent * len(there | inside) / 100)
        assert len(new) == min(len(there - inside), max(0, wanted - len(inside)))

    @given(there=NAMES, more=NAMES)
    def test_a_share_only_grows(self, there: set[str], more: set[str]) -> None:
        """Agents that come later push nobody out who is in."""
        first = joining("30 %", {agent: {} for agent in there}, (), release=SEED)
        later = joining("30 %", {agent: {} for agent in there | more}, first, release=SEED)
        assert not set(first) & set(later)

    @given(there=NAMES)
    def test_the_fleet_is_everybody(self, there: set[str]) -> None:
        """The last ring leaves nobody out."""
        new = joining("fleet", {agent: {} for agent in there}, (), release=SEED)
        assert new == sorted(there)

    @given(there=NAMES, last=st.sampled_from(["gw-1", "gw-2", ""]))
    def test_the_canary_is_one(self, there: set[str], last: str) -> None:
        """Not the one of the last time, where there is another."""
        labels: dict[str, dict[str, str]] = {agent: {} for agent in there}
        new = joining("canary", labels, (), release=SEED, last_canary=last)
        assert len(new) == min(1, len(there))
        assert last not in new or there == {last}
        assert joining("canary", labels, {"somebody"}, release=SEED) == []

    def test_a_selector_finds_labels_and_names(self) -> None:
        """As in the job file's `select`."""
        there = {"a": {"line": "A"}, "b": {"line": "B"}, "c": {}}
        assert joining('line == "A"', there, (), release=SEED) == ["a"]
        assert joining('agent in ["b", "c"]', there, {"c"}, release=SEED) == ["b"]


class TestReached:
    def test_by_one_who_has_it(self) -> None:
        """A ring of a line that nobody has come from yet has shown nothing."""
        assert reached('line == "A"', {"a": {"line": "A"}})
        assert not reached('line == "A"', {"b": {"line": "B"}})
        assert reached("10 %", {"b": {}})
        assert not reached("canary", {})
        assert may_be_empty('line == "A"')
        assert not may_be_empty("10 %")
