# SPDX-License-Identifier: Apache-2.0
"""A certificate is of an authority that signed it, and of no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.pki import DAY, Authority, now

from fedmill_shared.crypto.issuer import check_issued
from fedmill_shared.errors import IdentityError

PLANT, OTHER = Authority(), Authority("Other CA")


class TestIssuer:
    def test_of_one_of_several(self) -> None:
        """Where an authority follows another, both are trusted for a while."""
        issued = PLANT.issue("press-4")
        check_issued(issued.pem, PLANT.pem)
        check_issued(issued.pem, OTHER.pem + PLANT.pem)

    def test_its_time_says_nothing(self) -> None:
        """That is looked at elsewhere."""
        check_issued(PLANT.issue("press-4", begin=now() - 9 * DAY, life=DAY).pem, PLANT.pem)

    def test_of_another(self) -> None:
        """Told by the names of those that are trusted."""
        with pytest.raises(IdentityError, match="'CN=Plant CA' or 'CN=Other CA'"):
            check_issued(Authority().issue("press-4").pem, PLANT.pem + OTHER.pem)

    def test_who_is_no_authority(self) -> None:
        """A certificate of an agent signs no other, whatever its key can do."""
        agent = PLANT.issue("press-9")
        forger = Authority("press-9")
        forger._key = agent.key
        with pytest.raises(IdentityError, match="not issued by"):
            check_issued(forger.issue("press-4").pem, agent.pem)

    @given(st.binary(max_size=200))
    def test_foreign_bytes(self, data: bytes) -> None:
        """On either side: refused."""
        issued = PLANT.issue("press-4").pem
        for pair in ((data, PLANT.pem), (issued, data)):
            with pytest.raises(IdentityError):
                check_issued(*pair)
