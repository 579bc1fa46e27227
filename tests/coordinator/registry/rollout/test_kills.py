# SPDX-License-Identifier: Apache-2.0
"""A coordinator that is killed, or whose disk fails, at any effect of a roll-out."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.coordinator.registry.rollout.rig import NAME, Rig, version

from fedmill_coordinator.store.records_releases import LAST_WORDS
from fedmill_shared.errors import StoreError

EFFECTS = 24
"""More than either story has."""


class KilledError(Exception):
    """The process is gone."""


class Fuse:
    """Burns with every effect, and kills at one of them: before it happens, or right after."""

    def __init__(self, rig: Rig, at: int, error: type[Exception], *, after: bool) -> None:
        self.left = at
        self.error = error
        self.after = after
        for name in ("add_release", "save_release"):
            self._arm(rig.store, name)
        self._arm(rig, "_hear")

    def _arm(self, target: Any, name: str) -> None:
        method: Callable[..., Any] = getattr(target, name)

        def burns(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise self.error("no space left on device")
            result = method(*arguments, **options)
            if self.left == 0:
                raise self.error("no space left on device")
            return result

        setattr(target, name, burns)


def survive(rig: Rig, act: Callable[[], object]) -> None:
    """Do something; a process that dies of it is started again."""
    try:
        act()
    except KilledError:
        rig.start()
    except StoreError:
        return


def lead(rig: Rig, *, refused: bool) -> None:
    """Agents take what they may have, or refuse it, until nothing is under way."""
    for _ in range(40):
        for agent in rig.asked() if rig.said else []:
            told = rig.said[-1]
            first = rig.store.releases(NAME)[0].canary
            bad = refused and told.notice.version == version(2) and agent != first
            rig.say(agent, "rolled_back" if bad else "committed")
        survive(rig, lambda: rig.wait(31))


CASES = [(KilledError, False), (KilledError, True), (StoreError, False)]


@pytest.mark.parametrize(("error", "after"), CASES)
@pytest.mark.parametrize("refused", [False, True], ids=["accepted", "refused"])
def test_at_any_effect(error: type[Exception], *, after: bool, refused: bool) -> None:
    """The fleet ends with the version, or where that is not accepted with the one before."""
    left = 0
    for at in range(1, EFFECTS):
        rig = Rig(agents=4)
        rig.stable(0)
        fuse = Fuse(rig, at, error, after=after)
        survive(rig, rig.promote)
        if not rig.store.releases(NAME):  # the order was not carried out, so it is again
            rig.promote()
        lead(rig, refused=refused)
        releases = rig.store.releases(NAME)
        assert [each.state for each in releases] == (["aborted", "done"] if refused else ["done"])
        assert rig.said[-1].notice.version == version(0 if refused else 2)
        assert rig.said[-1].release == releases[-1].release
        assert rig.alias("stable") == version(0 if refused else 2)
        for release in releases:
            states = {each.state for each in rig.store.installs(NAME, release.release)}
            assert states <= {*LAST_WORDS}
        left = fuse.left
    assert left > 0, "the story has more effects than are tried"
