# SPDX-License-Identifier: Apache-2.0
"""Whatever agents say, whenever they come and go, whenever the coordinator is killed: it ends."""

from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.coordinator.registry.rollout.rig import NAME, Rig

from fedmill_coordinator.registry.rollout.rings import rank
from fedmill_coordinator.store.records_releases import LAST_WORDS
from fedmill_coordinator.store.rules_releases import GOING

STATES = ["downloaded", "shadowing", "soaking", "committed", "rejected", "rolled_back", "later"]
AGENTS = [f"gw-{number}" for number in range(8)]
RINGS = [
    ["fleet"],
    ["canary", "fleet"],
    ["canary", "30 %", "60 %", "fleet"],
    ["line == 'A'", "50 %", "100 %"],
]


class Fleet(RuleBasedStateMachine):
    """Agents of two lines, and one roll-out after the other."""

    rig: Rig
    rings: ClassVar[list[list[str]]] = RINGS
    """Of which one is drawn; none where each version is served as it comes."""

    @initialize(
        data=st.data(),
        soak=st.sampled_from([0.0, 100.0]),
        share=st.sampled_from([0.0, 0.3, 0.9]),
        after=st.integers(1, 4),
    )
    def begin(self, data: st.DataObject, soak: float, share: float, after: int) -> None:
        """A job, and version 0 in use."""
        rings = data.draw(st.sampled_from(self.rings)) if self.rings else []
        lines = f"rings = {rings}\n" if rings else ""
        lines += f"soak_seconds = {soak}\n" if len(rings) > 1 else ""
        lines += f"abort_share = {share}\nabort_after = {after}\ntimeout_seconds = 300.0\n"
        kind = "manual" if rings else "each"
        self.rig = Rig(f'release = "{kind}"\n' + lines, agents=0)
        self.made = 3
        self.rig.stable(0)

    @rule(agent=st.sampled_from(AGENTS))
    def come(self, agent: str) -> None:
        """An agent connects."""
        self.rig.come(agent, line="A" if int(agent[-1]) % 2 else "B")
        self.rig.wait()

    @rule(agent=st.sampled_from(AGENTS))
    def go(self, agent: str) -> None:
        """It is gone."""
        self.rig.go(agent)
        self.rig.wait()

    @rule(data=st.data(), state=st.sampled_from(STATES))
    @precondition(lambda self: self.rig.said and self.rig.online)
    def say(self, data: st.DataObject, state: str) -> None:
        """An agent that may have the release does something with it."""
        able = sorted(set(self.rig.asked()) & set(self.rig.online))
        if able:
            self.rig.say(data.draw(st.sampled_from(able)), state)
            self.rig.wait()

    @rule(seconds=st.sampled_from([1.0, 40.0, 150.0, 400.0]))
    def time(self, seconds: float) -> None:
        """Nothing happens but that."""
        self.rig.wait(seconds)

    @rule(number=st.integers(0, 2))
    def promote(self, number: int) -> None:
        """Somebody wants another version."""
        self.rig.promote(number)

    @rule()
    @precondition(lambda self: not self.rings)
    def go_on(self) -> None:
        """The job makes another version, which is served as it comes."""
        self.rig.make(self.made)
        self.made += 1
        self.rig.rollout.versions_changed()
        self.rig.wait()

    @rule(paused=st.booleans())
    @precondition(lambda self: self.rig.rollout.going is not None)
    def hold(self, paused: bool) -> None:  # noqa: FBT001  drawn by name
        """Somebody holds it, or lets it go on."""
        self.rig.rollout.hold(paused=paused, by="anna")
        self.rig.wait()

    @rule(gone=st.sampled_from([0.0, 10.0, 1000.0]))
    def kill(self, gone: float) -> None:
        """The coordinator is killed, and comes back after a while."""
        self.rig.clock.advance(gone)
        self.rig.start()

    @rule()
    def broker(self) -> None:
        """The connection was lost: what was heard no longer counts until it is told again."""
        self.rig.fleet.unsettle()
        self.rig.rollout.announce()
        for agent in self.rig.online:
            self.rig._speak(agent)

    @invariant()
    def only_open_rings(self) -> None:
        """A release goes to no agent but those of the rings that are open."""
        for release in self.rig.store.releases(NAME):
            told = [each for each in self.rig.said if each.release == release.release]
            rows = {
                each.agent: each.ring for each in self.rig.store.installs(NAME, release.release)
            }
            assert all(1 <= ring <= release.opened for ring in rows.values())
            for notice in told:
                if notice.agents is None:
                    assert release.opened == len(release.rings)
                else:
                    assert rows.keys() >= set(notice.agents)

    @invariant()
    def nothing_old_is_asked_for(self) -> None:
        """Where the newest version is served as it comes, no release is for anybody."""
        if not self.rings and self.rig.rollout.served.newest and self.rig.said:
            assert self.rig.said[-1].agents == []

    @invariant()
    def one_under_way(self) -> None:
        """At most one, the newest; and `canary` is its version."""
        releases = self.rig.store.releases(NAME)
        going = [each for each in releases if each.state in GOING]
        assert going in ([], releases[-1:])
        assert self.rig.alias("canary") == (going[0].version if going else "")

    @invariant()
    def nobody_waits_for_what_is_given_up(self) -> None:
        """Whoever was asked for it has a last word."""
        for release in self.rig.store.releases(NAME):
            if release.state in ("aborted", "superseded"):
                states = {e.state for e in self.rig.store.installs(NAME, release.release)}
                assert states <= {*LAST_WORDS}

    def teardown(self) -> None:
        """Left alone, with one agent there, it ends; and everybody has a last word."""
        rig = self.rig
        rig.come("gw-1", line="A")
        if rig.rollout.going is not None and rig.rollout.going.state == "paused":
            rig.rollout.hold(paused=False, by="anna")
        for _ in range(100):
            rig.wait(60)
        for release in rig.store.releases(NAME):
            assert release.state not in GOING
            states = {each.state for each in rig.store.installs(NAME, release.release)}
            assert states <= {*LAST_WORDS}
        numbers = [each.release for each in rig.store.releases(NAME)]
        assert numbers == sorted(set(numbers))


class FleetOfEach(Fleet):
    """The same where each version is served as it comes, but for promotions in between."""

    rings: ClassVar[list[list[str]]] = []


TestInterleavings = Fleet.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=30)
TestEach = FleetOfEach.TestCase
TestEach.settings = settings(max_examples=60, stateful_step_count=30)


def test_draws_differ_from_release_to_release() -> None:
    """Not always the same agents take the risk."""
    orders: set[Any] = set()
    for release in range(1, 20):
        ranks = {agent: rank(NAME, release, agent) for agent in AGENTS}
        orders.add(tuple(sorted(AGENTS, key=ranks.__getitem__)))
    assert len(orders) == 19
