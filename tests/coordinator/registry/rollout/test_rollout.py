# SPDX-License-Identifier: Apache-2.0
"""A release goes from ring to ring, is given up, goes back, and ends; with agents as they are."""

import pytest
from tests.coordinator.registry.rollout.rig import CAREFUL, NAME, Rig, version

from fedmill_coordinator.store.records_releases import LAST_WORDS
from fedmill_shared.errors import StoreError


@pytest.fixture
def rig() -> Rig:
    """Ten agents that serve version 0, and rings of one, of half, and of all."""
    rig = Rig()
    rig.stable(0)
    return rig


class TestRings:
    def test_one_after_another(self, rig: Rig) -> None:
        """One agent, then half of them, then all; each ring waits for the one before."""
        release = rig.promote()
        assert (release.release, release.before, release.opened) == (1, version(0), 1)
        [first] = rig.asked()
        assert release.canary == first
        rig.wait(60)
        assert rig.asked() == [first]
        assert rig.alias("canary") == version(2)
        rig.commit()
        assert len(rig.asked()) == 5
        assert first in rig.asked()
        rig.commit()
        assert rig.said[-1].agents is None
        assert rig.release.state == "open"
        rig.commit()
        assert rig.release.state == "done"
        assert rig.states() == {"committed"}
        assert (rig.alias("stable"), rig.alias("previous")) == (version(2), version(0))
        assert rig.alias("canary") == ""
        assert rig.events()[-1] == "release.done"

    def test_numbers_only_go_up(self, rig: Rig) -> None:
        """What agents hear never goes back, whatever version it is of."""
        rig.promote(2)
        rig.promote(1)
        numbers = [each.release for each in rig.said]
        assert numbers == sorted(numbers)
        assert rig.store.releases(NAME)[0].state == "superseded"

    def test_who_came_after_the_end_is_not_waited_for_in_the_next(self) -> None:
        """It was asked for a release that was done, and another one took its place."""
        rig = Rig('release = "manual"', agents=2)
        rig.promote(1)
        rig.commit()
        rig.come("late")
        rig.wait(5)
        rig.promote(2)
        states = {each.agent: each.state for each in rig.store.installs(NAME, 1)}
        assert states == {"gw-0": "committed", "gw-1": "committed", "late": "withdrawn"}

    def test_who_released_what_is_in_the_audit_log(self, rig: Rig) -> None:
        """Its begin with the version before, each hold, and its end."""
        rig.promote(2)
        rig.rollout.hold(paused=True, by="anna")
        rig.rollout.hold(paused=False, by="anna")
        rig.wait()
        for _ in range(3):
            rig.commit()
        (begun,) = rig.audit.of("release.begun")
        assert (begun.subject, begun.before, begun.after) == (
            f"{NAME}, release 1",
            version(0),
            version(2),
        )
        assert [each.what for each in rig.audit[1:]] == [
            "release.paused",
            "release.resumed",
            "release.done",
        ]
        assert rig.audit[1].who == "anna"

    def test_another_canary_the_next_time(self, rig: Rig) -> None:
        """The risk is not always the same agent's."""
        first = rig.promote(2).canary
        for number in (1, 2, 1, 2):
            canary = rig.promote(number).canary
            assert canary != first
            first = canary

    def test_a_soak_between_rings(self) -> None:
        """Time passes before the next ring opens, also while the process is away."""
        rig = Rig(CAREFUL + "soak_seconds = 600.0")
        rig.promote()
        rig.commit()
        rig.wait(500)
        assert rig.release.opened == 1
        rig.clock.advance(90)
        rig.start()
        rig.wait(5)
        assert rig.release.opened == 1
        rig.wait(6)
        assert rig.release.opened == 2

    def test_a_clock_that_is_set_back_starts_no_longer_soak(self) -> None:
        """A soak is never longer than it is written down, whatever the clock on the wall says."""
        rig = Rig(CAREFUL + "soak_seconds = 600.0")
        rig.promote()
        rig.commit()
        until = rig.release.soak_ns
        assert until is not None
        broken = rig.store.releases(NAME)[0]
        rig.store._releases[NAME, 1] = type(broken)(
            **{**{f: getattr(broken, f) for f in broken.__struct_fields__}, "soak_ns": until * 2}
        )
        rig.start()
        rig.wait(3)
        rig.wait(601)
        assert rig.release.opened == 2

    def test_a_selector(self) -> None:
        """Those of line A come with its ring; a ring that nobody is in is left out in time."""
        rings = 'rings = [\'line == "A"\', \'line == "C"\', "fleet"]\ntimeout_seconds = 100.0\n'
        rig = Rig('release = "manual"\n' + rings, agents=0)
        for number in range(3):
            rig.come(f"a-{number}", line="A")
            rig.come(f"b-{number}", line="B")
        rig.wait(5)
        rig.promote()
        assert rig.asked() == ["a-0", "a-1", "a-2"]
        rig.commit()
        assert rig.release.opened == 2
        rig.wait(90)
        assert rig.release.opened == 2
        rig.wait(20)
        assert rig.release.opened == 3

    def test_nobody_is_there(self) -> None:
        """A release waits for its first agent, and does not run through its rings without one."""
        rig = Rig(agents=0)
        rig.promote()
        rig.wait(1e6)
        assert rig.release.opened == 0
        rig.come("late")
        rig.wait(5)
        assert rig.asked() == ["late"]

    def test_newcomers_join_by_their_ring(self, rig: Rig) -> None:
        """A fleet that comes back in the morning does not become one large canary."""
        rig.promote()
        for number in range(10, 20):
            rig.come(f"gw-{number}")
        rig.wait(5)
        assert len(rig.asked()) == 1
        rig.commit()
        assert len(rig.asked()) == 10
        for number in range(20, 24):
            rig.come(f"gw-{number}")
        rig.wait(5)
        assert len(rig.asked()) == 12
        rig.commit()
        rig.commit()
        assert rig.release.state == "done"
        rig.come("much-later")
        rig.wait(5)
        assert rig.said[-1].agents is None
        assert rig.installs["much-later"].state == "asked"
        assert rig.release.state == "done"


class TestLastWords:
    def test_time_passes(self, rig: Rig) -> None:
        """An agent that says nothing is no longer waited for; it may commit later all the same."""
        rig.promote()
        rig.commit()
        silent, *others = rig.asked()
        for agent in others:
            rig.say(agent, "committed")
        rig.wait(3500)
        assert rig.release.opened == 2
        rig.wait(200)
        assert rig.installs[silent].state == "timed_out"
        assert rig.release.opened == 3
        rig.say(silent, "committed")
        rig.wait()
        assert rig.installs[silent].state == "committed"

    def test_a_broker_that_was_away_takes_nobody_s_time(self, rig: Rig) -> None:
        """What agents did meanwhile is heard before anybody is late."""
        rig.promote()
        [first] = rig.asked()
        rig.clock.advance(7200)
        rig.fleet.unsettle()
        rig.rollout.announce()
        rig.rollout.step()
        assert rig.installs[first].state == "asked"
        for agent in rig.online:
            rig._speak(agent)
        rig.say(first, "committed")
        rig.wait(5)
        assert rig.installs[first].state == "committed"
        assert rig.release.opened == 2

    def test_steps_on_the_way_are_kept(self, rig: Rig) -> None:
        """What a person sees: how far, since when, what was measured."""
        rig.promote()
        [first] = rig.asked()
        rig.say(first, "shadowing", evidence={"windows": 12.0}, since_ns=77)
        rig.wait()
        told = rig.installs[first]
        assert (told.state, told.evidence, told.since_ns) == ("shadowing", '{"windows":12.0}', 77)
        rig.say(first, "a_state_of_later_software")
        rig.wait()
        assert rig.installs[first].state == "a_state_of_later_software"
        assert rig.release.state == "open"

    @pytest.mark.parametrize("state", ["withdrawn", "timed_out", "asked", ""])
    def test_no_agent_says_what_we_say(self, rig: Rig, state: str) -> None:
        """An agent cannot talk itself out of a release."""
        rig.promote()
        [first] = rig.asked()
        rig.say(first, state)
        rig.wait()
        assert rig.installs[first].state == "asked"

    def test_of_another_version_or_release(self, rig: Rig) -> None:
        """It says nothing of this one."""
        rig.promote()
        [first] = rig.asked()
        for fields in (
            {"version": version(1)},
            {"release": 9},
            {"release": 0, "state": "rejected"},
        ):
            rig.say(first, **{"state": "committed", **fields})
            rig.wait()
            assert rig.installs[first].state == "asked"

    def test_who_serves_it_already_need_not_say_so_again(self, rig: Rig) -> None:
        """The same bytes under an older number are committed."""
        rig.promote()
        [first] = rig.asked()
        rig.say(first, "committed", release=0)
        rig.wait()
        assert rig.installs[first].state == "committed"
        assert "already" in rig.installs[first].reason

    def test_what_was_said_before_it_began_counts(self) -> None:
        """Agents that have said which version they serve are not waited for to say it again."""
        rig = Rig('release = "manual"')
        rig.promote(1)
        rig.commit()
        rig.promote(2)
        rig.promote(1)
        rig.wait()
        assert (rig.release.release, rig.release.state) == (3, "done")
        assert rig.states() == {"committed"}


class TestAbort:
    def test_the_canary_refuses(self, rig: Rig) -> None:
        """Nobody else gets it, and nobody has to go back."""
        rig.promote()
        [first] = rig.asked()
        rig.say(first, "rejected", gate="shadow", reason="12 of 40 windows differ")
        rig.wait()
        rig.wait()
        assert rig.release.state == "aborted"
        assert first in rig.release.reason
        assert "12 of 40 windows differ" in rig.release.reason
        assert len(rig.store.releases(NAME)) == 1
        assert rig.said[-1].agents == []
        assert rig.alias("stable") == version(0)
        assert rig.alias("canary") == ""
        assert "release.aborted" in rig.events()

    def test_whoever_has_it_goes_back(self, rig: Rig) -> None:
        """A new, higher release of the bytes before, to all of them at once."""
        rig.promote()
        rig.commit()
        second = [agent for agent in rig.asked() if rig.installs[agent].state == "asked"]
        for agent in second[:2]:
            rig.say(agent, "rolled_back", gate="soak")
        rig.wait()
        aborted, back = rig.store.releases(NAME)
        assert aborted.state == "aborted"
        assert (back.release, back.version, back.why) == (2, version(0), "aborted")
        assert back.rings == ["fleet"]
        rig.wait()
        assert (rig.said[-1].release, rig.said[-1].agents) == (2, None)
        assert rig.said[-1].notice.version == version(0)
        rig.commit()
        assert rig.release.state == "done"
        assert rig.alias("stable") == version(0)

    def test_a_kill_between_abort_and_way_back(self, rig: Rig) -> None:
        """The next start goes back."""
        rig.promote()
        rig.commit()
        [second, *_] = [a for a in rig.asked() if rig.installs[a].state == "asked"]
        begin = rig.store.add_release

        def fails(_release: object) -> None:
            raise StoreError("killed")

        rig.say(second, "rejected")
        rig.store.add_release = fails  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            rig.wait()
        assert rig.release.state == "aborted"
        rig.store.add_release = begin  # type: ignore[method-assign]
        rig.start()
        rig.wait(5)
        assert rig.release.why == "aborted"

    def test_a_share_that_is_borne(self) -> None:
        """Fewer than that may refuse; the release goes on for the others."""
        rig = Rig(CAREFUL + "abort_share = 0.5\nabort_after = 2")
        rig.promote()
        [first] = rig.asked()
        rig.say(first, "committed")
        rig.wait()
        *refusing, _, _ = [agent for agent in rig.asked() if agent != first]
        for agent in rig.asked():
            if agent != first:
                rig.say(agent, "rejected" if agent in refusing else "committed")
        rig.wait()
        assert rig.release.state == "open"
        rig.commit()
        assert rig.release.state == "done"

    def test_fewer_agents_than_may_abort(self) -> None:
        """Where all there are refuse it, it is given up, though more were wanted for that."""
        rig = Rig('release = "manual"\nabort_after = 50', agents=3)
        rig.promote()
        for agent in rig.asked():
            rig.say(agent, "rejected")
        rig.wait()
        assert rig.release.state == "aborted"

    def test_the_first_release_of_all(self) -> None:
        """There is nothing to go back to: who has it keeps it, nobody else gets it."""
        rig = Rig('release = "manual"', agents=4)
        rig.promote()
        one, *others = rig.asked()
        rig.say(one, "committed")
        for agent in others:
            rig.say(agent, "rejected")
        rig.wait()
        rig.wait()
        assert rig.release.state == "aborted"
        assert rig.said[-1].agents == [one]
        assert rig.release.release == 1

    def test_a_way_back_is_not_given_up_for_some(self, rig: Rig) -> None:
        """Whatever most agents say of it: there is nothing safer."""
        self.roll_back(rig)
        for agent in rig.asked()[1:]:
            rig.say(agent, "rejected")
        rig.wait()
        assert rig.release.state == "open"
        rig.say(rig.asked()[0] if rig.said[-1].agents else "gw-0", "committed")
        rig.wait()
        assert (rig.release.state, rig.alias("stable")) == ("done", version(1))
        assert rig.log.calls[-1].kwargs["failed"] == 9

    def test_a_way_back_that_nobody_takes_is_none(self, rig: Rig) -> None:
        """What is stable stays so, and nobody is told to go on to what was gone back from."""
        self.roll_back(rig)
        for agent in rig.asked():
            rig.say(agent, "rejected", gate="numbers")
        rig.wait()
        rig.wait()
        assert (rig.release.state, rig.release.release) == ("aborted", 1)
        assert rig.alias("stable") == version(0)
        assert "numbers" in rig.release.reason

    def test_agents_know_a_way_back(self, rig: Rig) -> None:
        """By hand or after an abort; nothing else is one."""
        self.roll_back(rig)
        assert [each.back for each in rig.said] == [True]
        rig.commit()
        rig.promote(2)
        rig.commit()
        for agent in set(rig.asked()) - {rig.release.canary}:
            rig.say(agent, "rolled_back", gate="soak")
        rig.wait()
        rig.wait()
        assert [each.back for each in rig.said if each.release == 2] == [False] * 3
        assert (rig.said[-1].release, rig.said[-1].back) == (3, True)

    def roll_back(self, rig: Rig) -> None:
        """Somebody goes back to version 1."""
        found = rig.store.version(NAME, version(1))
        assert found is not None
        rig.rollout.begin(found, "rollback", rings=["fleet"])
        rig.wait()


class TestHeld:
    def test_no_ring_opens_and_no_time_passes(self, rig: Rig) -> None:
        """What agents do is still heard; they get their whole time again."""
        rig.promote()
        [first] = rig.asked()
        rig.rollout.hold(paused=True, by="anna")
        rig.wait(10_000)
        assert rig.installs[first].state == "asked"
        rig.say(first, "shadowing")
        rig.wait()
        assert rig.installs[first].state == "shadowing"
        rig.start()
        rig.rollout.hold(paused=False, by="anna")
        rig.wait(3000)
        assert rig.installs[first].state == "shadowing"
        rig.commit()
        assert rig.release.opened == 2


class TestByItself:
    def test_the_last_version(self) -> None:
        """Once, also where the coordinator was killed before it noted the end of the job."""
        rig = Rig('release = "last"')
        for _ in range(2):
            rig.rollout.finish()
            rig.start()
        assert [each.version for each in rig.store.releases(NAME)] == [version(2)]

    def test_the_last_version_is_withheld_where_it_is_clearly_worse(self) -> None:
        """Than what is served, on the same agents' windows; within the noise it is released."""
        for right, released in ((7, True), (1, False)):
            rig = Rig('release = "last"')
            rig.stable(0)
            rig.evaluate(0, 9)
            rig.evaluate(2, right)
            rig.evaluate(2, 0, "somebody-else")
            rig.rollout.finish()
            assert bool(rig.store.releases(NAME)) == released
            assert ("release.withheld" in rig.events()) != released
        assert "accuracy 0.1 against 0.9 on 20 windows of 2 agents" in str(rig.log.calls[-1])

    def test_a_better_version(self) -> None:
        """Better on the same agents' windows than what is served; given up once, it stays so."""
        rig = Rig('release = "better"')
        rig.evaluate(0, 5)
        rig.wait()
        assert rig.release.version == version(0)
        rig.commit()
        rig.commit()
        rig.evaluate(1, 4)
        rig.evaluate(2, 9, "somebody-else")
        rig.rollout.versions_changed()
        rig.wait()
        assert rig.release.version == version(0)
        rig.evaluate(2, 6)
        rig.rollout.versions_changed()
        rig.wait()
        rig.wait()
        assert (rig.release.version, rig.release.why) == (version(2), "better")
        for agent in rig.asked():
            rig.say(agent, "rejected")
        rig.wait()
        rig.rollout.versions_changed()
        rig.wait()
        rig.wait()
        assert rig.release.version == version(2)
        assert rig.release.state == "aborted"

    def test_what_an_operator_went_back_from_does_not_come_again(self) -> None:
        """A person knows better than an evaluation."""
        rig = Rig('release = "better"')
        rig.stable(2)
        rig.evaluate(1, 4)
        rig.evaluate(2, 6)
        found = rig.store.version(NAME, version(1))
        assert found is not None
        rig.rollout.begin(found, "rollback", rings=["fleet"])
        rig.wait()
        rig.commit()
        rig.rollout.versions_changed()
        rig.wait()
        assert (rig.release.version, rig.release.state) == (version(1), "done")

    def test_each_version_ends_what_was_promoted_by_hand(self) -> None:
        """The job goes on: its next version is served as it comes."""
        rig = Rig('release = "each"')
        assert rig.rollout.served.newest
        rig.clock.advance(1)
        rig.promote(1)
        assert not rig.rollout.served.newest
        rig.clock.advance(1)
        rig.make(3)
        rig.wait()
        assert rig.release.state == "superseded"
        assert rig.rollout.served.newest

    def test_a_clock_that_is_put_right_is_not_asked_what_came_first(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A promotion while the clock was a day ahead does not outlast the versions after it."""
        rig = Rig('release = "each"')
        right = rig.clock.now_ns
        monkeypatch.setattr(rig.clock, "now_ns", lambda: right() + 86400 * 10**9)
        rig.start()
        rig.promote(1)
        assert not rig.rollout.served.newest
        monkeypatch.setattr(rig.clock, "now_ns", right)
        rig.make(3)
        rig.wait()
        assert rig.rollout.served.newest
        assert rig.release.state == "superseded"


class TestRestart:
    @pytest.mark.parametrize("kills", [1, 2, 3])
    def test_between_any_two_rings(self, rig: Rig, kills: int) -> None:
        """The next process finds the same ring, the same agents, and tells them again."""
        rig.promote()
        while rig.release.state == "open":
            before = rig.asked(), rig.release.opened
            for _ in range(kills):
                rig.start()
                rig.wait(3)
            assert (rig.asked(), rig.release.opened) == before
            rig.commit()
        assert rig.release.state == "done"
        assert {each.state for each in rig.installs.values()} <= {*LAST_WORDS}

    def test_with_a_clock_that_was_set_back(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody has a day more time because of it."""
        rig.promote()
        right = rig.clock.now_ns
        monkeypatch.setattr(rig.clock, "now_ns", lambda: right() - 86400 * 10**9)
        rig.start()
        rig.wait(3700)
        [first] = rig.store.installs(NAME, 1)
        assert first.state == "timed_out"

    def test_a_database_from_a_backup(self, rig: Rig) -> None:
        """Agents know higher releases than it does: the next one is beyond those."""
        rig.promote()
        [first] = rig.asked()
        rig.say(first, "committed", release=700)
        rig.say("gw-9", "committed", release=2**40)
        assert rig.promote(1).release == 701
