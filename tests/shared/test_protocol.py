# SPDX-License-Identifier: Apache-2.0
"""Which protocol two sides speak, for every pair of them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared import protocol
from fedmill_shared.errors import FedmillError, ProtocolError
from fedmill_shared.protocol import NEWEST, OLDEST, common

VERSIONS = range(8)


def speaks(oldest: int, newest: int) -> set[int]:
    """The versions that a range stands for; a newest of 0 is that of software of protocol 1."""
    return set(range(oldest, max(oldest, newest) + 1))


class TestCommon:
    @pytest.mark.parametrize(
        ("oldest", "newest", "shared"),
        [(1, 0, 1), (1, 1, 1), (1, 2, 2), (2, 0, 2), (2, 3, 2), (1, 9, 2)],
    )
    def test_neighbours_work_together(self, oldest: int, newest: int, shared: int) -> None:
        """In the newest version that both speak."""
        assert common(oldest, newest, who="agent a") == shared

    @pytest.mark.parametrize(
        ("oldest", "newest", "told"),
        [
            (3, 0, "agent a speaks protocol 3, this side 1 to 2 (upgrade this side; "),
            (3, 4, "agent a speaks protocol 3 to 4, this side 1 to 2 (upgrade this side; "),
            (0, 0, "agent a speaks protocol 0, this side 1 to 2 (upgrade agent a; "),
        ],
    )
    def test_others_are_told_who_is_to_be_upgraded(
        self, oldest: int, newest: int, told: str
    ) -> None:
        """What each side speaks, and which of them is the older."""
        with pytest.raises(ProtocolError) as caught:
            common(oldest, newest, who="agent a")
        assert str(caught.value) == f"{told}neighbouring versions work together)"

    @given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
    def test_is_the_largest_of_both_ranges(self, oldest: int, newest: int) -> None:
        """Or an error where they do not meet, whatever a stranger says of itself."""
        spoken = range(oldest, max(oldest, newest) + 1)
        shared = [version for version in range(OLDEST, NEWEST + 1) if version in spoken]
        if shared:
            assert common(oldest, newest, who="x") == max(shared)
        else:
            with pytest.raises(ProtocolError):
                common(oldest, newest, who="x")

    @pytest.mark.parametrize("mine", list(itertools.combinations_with_replacement(VERSIONS, 2)))
    def test_both_sides_find_the_same(
        self, mine: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Software of any version, on either side: never do they disagree."""

        def seen(me: tuple[int, int], other: tuple[int, int]) -> int | None:
            monkeypatch.setattr(protocol, "OLDEST", me[0])
            monkeypatch.setattr(protocol, "NEWEST", me[1])
            try:
                return common(*other, who="the other")
            except ProtocolError:
                return None

        for theirs in itertools.combinations_with_replacement(VERSIONS, 2):
            both = speaks(*mine) & speaks(*theirs)
            assert seen(mine, theirs) == seen(theirs, mine) == max(both, default=None)

    def test_is_an_error_of_ours(self) -> None:
        """With an exit code of its own."""
        assert issubclass(ProtocolError, FedmillError)
        codes = [kind.exit_code for kind in FedmillError.__subclasses__()]
        assert codes.count(ProtocolError.exit_code) == 1
