# SPDX-License-Identifier: Apache-2.0
"""When a certificate is renewed, and what people are told in the course of its life."""

from hypothesis import given
from hypothesis import strategies as st
from tests.agent.identity.scenarios import facts

from fedmill_agent.identity.term import renewal_ns, standing

DAY = 24 * 3600 * 10**9
LIFE = 90 * DAY
START = 20_000 * DAY
FACTS = facts("3", not_before_ns=START, not_after_ns=START + LIFE)


class TestRenewal:
    @given(st.integers(0, 2**32 - 1))
    def test_at_two_thirds_of_its_life(self, number: int) -> None:
        """Between 60 and 64.5 of 90 days, by the certificate: not all agents on one day."""
        made = facts(
            "3", not_before_ns=0, not_after_ns=LIFE, fingerprint=f"{number:08x}" + "0" * 56
        )
        assert 60 * DAY <= renewal_ns(made) <= 64.5 * DAY
        assert renewal_ns(made) == renewal_ns(made)

    def test_is_spread(self) -> None:
        """The first and the last fingerprint are days apart."""
        first, last = (
            renewal_ns(facts("3", not_before_ns=0, not_after_ns=LIFE, fingerprint=digit * 64))
            for digit in "0f"
        )
        assert last - first > 4 * DAY


class TestStanding:
    def test_without_one(self) -> None:
        """How to get one."""
        told = standing(None, START)
        assert told.state == "none"
        assert "fedmill-agent enrol" in told.remedy

    def test_in_the_course_of_its_life(self) -> None:
        """Valid, ending when it should have been renewed long ago, expired; early by a clock."""
        ages = {-1: "early", 0: "valid", 61: "valid", 76: "ending", 90: "ending", 91: "expired"}
        for age, state in ages.items():
            told = standing(FACTS, START + age * DAY)
            assert told.state == state, age
            assert (told.problem == "") == (state == "valid")
            assert told.serial == "3"
            assert told.not_after_ns == START + LIFE

    def test_a_wrong_clock(self) -> None:
        """Both times are named, and what to do; no word of OpenSSL."""
        told = standing(FACTS, 18_000 * DAY)
        assert told.problem == (
            "this machine's clock says 2019-04-14 00:00 UTC, "
            "the certificate is valid from 2024-10-04 00:00 UTC"
        )
        assert told.remedy == "set the clock of this machine, and let it follow a time server"

    def test_somebody_else_renews(self) -> None:
        """Who has put the files there has to renew them, and nobody is told to enrol."""
        for age in (76, 91):
            told = standing(FACTS, START + age * DAY, ours=False)
            assert told.renewal_ns == 0
            assert "whoever issued it" in told.remedy
            assert "enrol" not in told.remedy

    def test_expired(self) -> None:
        """When it ended, and that only a new enrolment helps."""
        told = standing(FACTS, START + 100 * DAY)
        assert "was valid until 2025-01-02 00:00 UTC" in told.problem
        assert "fedmill-agent enrol" in told.remedy
