# SPDX-License-Identifier: Apache-2.0
"""What every store keeps of releases: who takes whose place, and which aliases follow."""

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs
from tests.contract.conftest import JOB, name

from fedmill_coordinator.store import memory_releases, sql_releases
from fedmill_coordinator.store.base import Store
from fedmill_coordinator.store.records_releases import InstallRecord, ReleaseRecord
from fedmill_coordinator.store.records_wishes import WishRecord
from fedmill_shared.errors import StoreError


def a_release(number: int = 1, /, **fields: Any) -> ReleaseRecord:
    """Release ``number``, which begins, of the version of that number."""
    defaults = {
        "job": JOB,
        "release": number,
        "version": name(f"version {number}"),
        "before": None,
        "why": "promoted",
        "by": "anna",
        "rings": ["canary", "fleet"],
        "created_ns": 1000 + number,
    }
    return ReleaseRecord(**{**defaults, **fields})


def an_install(agent: str = "press-1", release: int = 1, **fields: Any) -> InstallRecord:
    """An agent that was asked."""
    defaults = {"job": JOB, "release": release, "agent": agent, "ring": 1}
    return InstallRecord(**{**defaults, "asked_ns": 1100, "heard_ns": 1100, **fields})


@pytest.fixture
def versions(job: Store, kit: SimpleNamespace) -> Store:
    """A store with the job and its versions 0 to 3."""
    for number in (1, 2, 3):
        job.add_version(kit.version(number, round=None))
    return job


def aliases(store: Store) -> dict[str, str]:
    """Version of each alias."""
    return {alias.alias: alias.version for alias in store.aliases(JOB)}


class TestReleases:
    def test_every_field_comes_back(self, versions: Store) -> None:
        """A release and an install with all that they can tell."""
        versions.add_release(a_release())
        full = a_release(
            before=name("version 0"),
            why="aborted",
            state="paused",
            opened=1,
            ring_ns=3,
            soak_ns=2**63 - 1,
            resumed_ns=5,
            canary="press-1",
            reason="größer",
        )
        told = an_install(
            state="rejected",
            gate="shadow",
            reason="12 of 40",
            evidence='{"agreement":0.5}',
            since_ns=9,
        )
        versions.save_release(full, [told])
        assert versions.release(JOB, 1) == full
        assert versions.releases(JOB) == [full]
        assert versions.installs(JOB, 1) == [told]
        assert versions.installs(JOB, 2) == []
        assert versions.release(JOB, 2) is None

    def test_the_newest_takes_the_place_of_one_under_way(self, versions: Store) -> None:
        """Who had no last word by then is no longer waited for; what was said stays."""
        versions.add_release(a_release())
        said = an_install("press-2", state="committed")
        versions.save_release(a_release(opened=1), [an_install(), said])
        versions.add_release(a_release(2))
        first, second = versions.releases(JOB)
        assert (first.state, first.ended_ns) == ("superseded", 1002)
        assert second == a_release(2)
        left, kept = versions.installs(JOB, 1)
        assert left.state == "withdrawn"
        assert "superseded" in left.reason
        assert kept == said
        assert versions.releases(JOB, last=1) == [second]

    def test_aliases_follow(self, versions: Store) -> None:
        """The canary while it goes on, stable and previous once it is done."""
        versions.add_release(a_release())
        assert aliases(versions) == {"canary": name("version 1")}
        versions.save_release(a_release(state="paused"))
        assert aliases(versions) == {"canary": name("version 1")}
        versions.save_release(a_release(state="done", ended_ns=1500))
        assert aliases(versions) == {"stable": name("version 1")}
        versions.add_release(a_release(2))
        versions.save_release(a_release(2, state="done", ended_ns=1600))
        both = {"stable": name("version 2"), "previous": name("version 1")}
        assert aliases(versions) == both
        versions.add_release(a_release(3))
        versions.save_release(a_release(3, state="aborted", ended_ns=1700))
        assert aliases(versions) == both

    def test_a_late_word_moves_no_alias(self, versions: Store) -> None:
        """Agents go on to be heard of a release that is done, also when another took its place."""
        versions.add_release(a_release())
        done = a_release(state="done", ended_ns=1500)
        versions.save_release(done)
        versions.set_alias(JOB, "stable", name("version 3"), updated_ns=1600)
        versions.add_release(a_release(2))
        versions.save_release(done, [an_install(state="committed")])
        assert aliases(versions)["stable"] == name("version 3")
        assert aliases(versions)["canary"] == name("version 2")
        assert [each.state for each in versions.installs(JOB, 1)] == ["committed"]

    def test_an_end_leaves_nobody_waiting(self, versions: Store) -> None:
        """Whoever is told of an aborted release has a last word with it."""
        versions.add_release(a_release())
        installs = [an_install(), an_install("press-2", state="rolled_back")]
        versions.save_release(a_release(state="aborted", ended_ns=9), installs)
        states = {each.agent: each.state for each in versions.installs(JOB, 1)}
        assert states == {"press-1": "withdrawn", "press-2": "rolled_back"}

    @pytest.mark.parametrize(
        "wrong",
        [
            a_release(0),
            a_release(state="done"),
            a_release(version=name("version 9")),
            a_release(before=name("version 9")),
            a_release(job="unknown"),
            a_release(rings=[]),
            a_release(why="whim"),
        ],
    )
    def test_what_cannot_begin(
        self, versions: Store, kit: SimpleNamespace, wrong: ReleaseRecord
    ) -> None:
        """Nothing changes, not even for the one that it would take the place of."""
        kit.refused(versions, lambda: versions.add_release(wrong))
        assert versions.releases(JOB) == []

    def test_one_number_twice(self, versions: Store) -> None:
        """The one that is there goes on."""
        versions.add_release(a_release())
        with pytest.raises(StoreError, match="numbers go up"):
            versions.add_release(a_release())
        assert versions.releases(JOB) == [a_release()]

    @pytest.mark.parametrize(
        ("changed", "install"),
        [
            (a_release(2), an_install(release=2)),
            (a_release(version=name("version 2")), an_install()),
            (a_release(opened=1), an_install(release=2)),
            (a_release(opened=-1), an_install()),
            (a_release(opened=1), an_install(ring=-1)),
        ],
    )
    def test_what_cannot_follow(
        self, versions: Store, changed: ReleaseRecord, install: InstallRecord
    ) -> None:
        """All or nothing."""
        versions.add_release(a_release())
        with pytest.raises(StoreError):
            versions.save_release(changed, [install])
        assert versions.releases(JOB) == [a_release()]
        assert versions.installs(JOB, 1) == []

    def test_what_is_over_stays_over(self, versions: Store) -> None:
        """A process that believes otherwise is refused."""
        versions.add_release(a_release())
        versions.save_release(a_release(state="done", ended_ns=5))
        with pytest.raises(StoreError, match="it is done"):
            versions.save_release(a_release())

    def test_weights_under_way_are_kept(self, versions: Store) -> None:
        """Those that the release brings, and those that agents would go back to."""
        versions.set_alias(JOB, "stable", name("version 0"), updated_ns=1)
        versions.add_release(a_release(before=name("version 0")))
        versions.forget_weights(JOB, [])
        kept = [record.number for record in versions.versions(JOB) if record.weights]
        assert kept == [0, 1]

    def test_only_the_newest_are_kept(
        self, versions: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of both kinds, by their place and not by their number, which may have gaps."""
        for module in (memory_releases, sql_releases):
            monkeypatch.setattr(module, "KEPT_RELEASES", 4)
            monkeypatch.setattr(module, "KEPT_INSTALLS", 2)
        for number in (1, 2, 700, 701, 702, 703):
            release = a_release(number, version=name("version 1"))
            versions.add_release(release)
            versions.save_release(release, [an_install(release=number)])
        assert [each.release for each in versions.releases(JOB)] == [700, 701, 702, 703]
        kept = [n for n in range(710) if versions.installs(JOB, n)]
        assert kept == [702, 703]


class TestWishes:
    def test_the_newest_of_each_agent(self, versions: Store, kit: SimpleNamespace) -> None:
        """With all it can tell; rounds settle those that wait, and no other."""
        first = WishRecord(
            job=JOB,
            agent="press-1",
            kind="round",
            reason="größer",
            evidence='{"psi":0.4}',
            heard_ns=2**62,
        )
        versions.save_wish(structs.replace(first, kind="moon", heard_ns=1))
        versions.save_wish(first)
        done = structs.replace(first, agent="press-0", settled_ns=7)
        versions.save_wish(done)
        assert versions.wishes(JOB) == [done, first]
        versions.settle_wishes(JOB, settled_ns=9, rounds=3)
        settled = structs.replace(first, settled_ns=9, rounds=3)
        assert versions.wishes(JOB) == [done, settled]
        assert versions.wishes("unknown") == []
        for wrong in ({"job": "unknown"}, {"heard_ns": -1}):
            record = structs.replace(first, **wrong)
            kit.refused(versions, lambda record=record: versions.save_wish(record))
        assert versions.wishes(JOB) == [done, settled]


class TestOrders:
    def test_have_an_argument(self, versions: Store) -> None:
        """What a verb needs to know comes back as it was given."""
        number = versions.give_order(JOB, "promote", "anna", 5, argument='{"version":"3"}')
        order = versions.order(number)
        assert order is not None
        assert (order.verb, order.argument) == ("promote", '{"version":"3"}')
