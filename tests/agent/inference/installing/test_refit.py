# SPDX-License-Identifier: Apache-2.0
"""A version of the federation beside a model that was fitted to this machine."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from tests.agent.inference.installing.rig import Rig, learned, near

from fedmill_agent.inference.assembly import Checked
from fedmill_agent.inference.installing.around import Proposal, Refit
from fedmill_shared.errors import StoreError
from fedmill_shared.job import Serving
from fedmill_shared.messages import VersionNotice
from fedmill_shared.models.manifest import version_of


def own(rig: Rig, refit: Refit | None) -> np.ndarray:
    """Weights of this agent's own serve, which know all validation windows; those are returned."""
    mine = learned(rig.versions, 3)
    rig.hold_out(mine)
    rig.refit = refit
    rig.start()
    rig.follow()
    assert rig.installer.propose(Proposal("feedback", mine, "labels"))
    assert rig.scorer.version == version_of(mine)
    return mine


def newer(rig: Rig) -> VersionNotice:
    """The federation's next version, which knows this machine less."""
    notice = rig.version(learned(rig.versions, 4))
    rig.release(notice)
    return notice


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A gateway whose job believes thirty labels."""
    return Rig(tmp_path, min_labels=10)


class TestRefit:
    def test_like_is_compared_with_like(self, rig: Rig) -> None:
        """What is worse as it comes serves in the form that is no worse, and is reported so."""
        asked: list[Checked] = []

        def refit(checked: Checked) -> np.ndarray:
            asked.append(checked)
            return near(mine)

        mine = own(rig, refit)
        notice = newer(rig)
        assert [each.version for each in asked] == [notice.version]
        assert rig.scorer.version == version_of(near(mine))
        assert rig.deployment.served == notice
        assert rig.told == ("committed", "")
        evidence = rig.report.evidence
        assert evidence["error_new"] <= evidence["error_serving"] < evidence["error_unfitted"]

    def test_shadow_looks_at_the_form_that_is_to_serve(self, tmp_path: Path) -> None:
        """It agrees with what serves, where the version as it comes does not."""
        rig = Rig(tmp_path, min_labels=10)
        mine = own(rig, None)
        rig.job = structs.replace(
            rig.job, serving=Serving(min_labels=10, shadow_windows=20, least_agreement=0.95)
        )
        rig.refit = lambda _: near(mine)
        rig.start()
        newer(rig)
        assert rig.told == ("shadowing", "")
        rig.live(20)
        assert rig.told == ("committed", "")
        assert rig.scorer.version == version_of(near(mine))

    @pytest.mark.parametrize("given", ["nothing", "worse", "a fault"])
    def test_what_is_worse_in_any_form_is_refused(self, rig: Rig, given: str) -> None:
        """With the reason of the version as it came; what serves serves on."""

        def refit(_: Checked) -> np.ndarray | None:
            if given == "a fault":
                raise StoreError("the disk is away")
            return None if given == "nothing" else learned(rig.versions, 5)

        mine = own(rig, refit)
        newer(rig)
        assert rig.told == ("rejected", "error")
        assert rig.scorer.version == version_of(mine)
        assert bool(rig.journal.of("install.unfitted")) == (given == "a fault")

    def test_what_is_better_serves_as_it_comes(self, rig: Rig) -> None:
        """Nothing is fitted for it."""

        def refit(_: Checked) -> None:
            pytest.fail("nobody needs it")

        mine = own(rig, refit)
        notice = rig.version(near(mine))
        rig.release(notice)
        assert rig.scores_with(notice)

    def test_without_labels_here_nothing_is_fitted(self, rig: Rig) -> None:
        """A job that fits nothing refuses what is worse."""
        own(rig, None)
        newer(rig)
        assert rig.told == ("rejected", "error")
