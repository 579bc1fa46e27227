# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_coordinator.pki.ttl import LONGEST, SHORTEST, parse_ttl
from fedmill_shared.errors import UsageError


class TestTtl:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("24h", 86_400),
            ("90s", 90),
            ("30m", 1800),
            ("7d", 604_800),
            ("1d12h", 129_600),
            (" 1H ", 3600),
            ("1m", SHORTEST),
            ("30d", LONGEST),
        ],
    )
    def test_as_people_write_it(self, text: str, seconds: int) -> None:
        """Nanoseconds."""
        assert parse_ttl(text) == seconds * 10**9

    @given(days=st.integers(0, 29), hours=st.integers(0, 23), minutes=st.integers(1, 59))
    def test_sums(self, days: int, hours: int, minutes: int) -> None:
        """The largest unit first."""
        seconds = 86_400 * days + 3600 * hours + 60 * minutes
        assert parse_ttl(f"{days}d{hours}h{minutes}m") == seconds * 10**9

    @pytest.mark.parametrize(
        "text", ["", "24", "h", "1y", "59s", "31d", "12h1d", "-1h", "1.5h", "1h " * 20, "٣h"]
    )
    def test_what_is_none(self, text: str) -> None:
        """With an example of what is."""
        with pytest.raises(UsageError, match="--ttl is") as error:
            parse_ttl(text)
        assert "24h" in error.value.remedy

    @given(text=st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """A span within the bounds, or a sentence."""
        try:
            span = parse_ttl(text)
        except UsageError:
            return
        assert SHORTEST <= span / 10**9 <= LONGEST
