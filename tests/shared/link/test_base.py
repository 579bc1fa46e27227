# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import BrokerError
from fedmill_shared.link.base import check_size, lost_in_words, topic_matches

LEVELS = st.sampled_from(["", "a", "b", "$a", "a+", "#a"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
WANTED = st.lists(LEVELS | st.just("+"), max_size=4)
PATTERNS = st.builds(
    lambda parts, tail: "/".join(parts + tail), WANTED, st.sampled_from([[], ["#"]])
)


def _by_expression(pattern: str, topic: str) -> bool:
    """The same rule, as a regular expression over the whole text."""
    parts = ["[^/]*" if part == "+" else re.escape(part) for part in pattern.split("/")]
    text = "/".join(parts)
    if pattern == "#":
        text = ".*"
    elif pattern.endswith("/#"):
        text = text.removesuffix("/\\#") + "(/.*)?"
    hidden = topic.startswith("$") and pattern[:1] in ("+", "#")
    return not hidden and re.fullmatch(text, topic) is not None


class TestTopicMatches:
    @given(pattern=PATTERNS, topic=TOPICS)
    def test_equals_a_regular_expression(self, pattern: str, topic: str) -> None:
        """Level by level or as one expression: the same topics match."""
        assert topic_matches(pattern, topic) == _by_expression(pattern, topic)

    @pytest.mark.parametrize(
        ("pattern", "topic", "expected"),
        [
            ("sport/#", "sport", True),
            ("sport/#", "sport/tennis/player1", True),
            ("#", "sport/tennis", True),
            ("sport/tennis/+", "sport/tennis/player1/ranking", False),
            ("sport/+", "sport", False),
            ("sport/+", "sport/", True),
            ("+/+", "/finance", True),
            ("/+", "/finance", True),
            ("+", "/finance", False),
            ("#", "$SYS/broker/load", False),
            ("+/monitor/Clients", "$SYS/monitor/Clients", False),
            ("$SYS/#", "$SYS/broker/load", True),
            ("accounts", "Accounts", False),
        ],
    )
    def test_examples_of_the_standard(self, pattern: str, topic: str, *, expected: bool) -> None:
        """MQTT 5.0, sections 4.7.1 to 4.7.3."""
        assert topic_matches(pattern, topic) is expected


class TestCheckSize:
    def test_limit_counts_payload_topic_and_overhead(self) -> None:
        """A message that fills the packet passes; one byte more names the topic and the remedy."""
        check_size("a/b", bytes(300_000 - 512 - 3), 300_000)
        with pytest.raises(BrokerError, match=r"a/b: 299486 bytes.*300000.*max_packet_size"):
            check_size("a/b", bytes(300_000 - 512 - 2), 300_000)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Unspecified error", "the broker closed it without a word"),
        ("Session taken over", "Session taken over"),
    ],
)
def test_why_a_connection_is_lost(reason: str, words: str) -> None:
    """A socket that closes has no reason of MQTT; all others are told as they are."""
    assert lost_in_words(reason) == words
