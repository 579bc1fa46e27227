# SPDX-License-Identifier: Apache-2.0
"""What the daemon knows of its certificate without reading it."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.identity.scenarios import facts

from fedmill_agent.identity.facts import LARGEST_FACTS, Facts, parse_facts, read_facts
from fedmill_shared.errors import IdentityError

HEX = st.text("0123456789abcdef", min_size=1)
MOMENTS = st.integers(0, 2**63 - 1)


class TestFacts:
    @given(
        st.builds(
            Facts,
            agent=st.from_regex(r"^[a-z0-9-]{1,32}\Z"),
            serial=HEX.map(lambda text: text[:40]),
            not_before_ns=MOMENTS,
            not_after_ns=MOMENTS,
            fingerprint=st.from_regex(r"^[0-9a-f]{64}\Z"),
            key=st.from_regex(r"^[0-9a-f]{16}\Z"),
            authority=st.from_regex(r"^[0-9a-f]{64}\Z"),
        )
    )
    def test_come_back_as_they_were(self, made: Facts) -> None:
        """Whatever they are; and a certificate never lives a negative time."""
        assert parse_facts(made.encode(), "x") == made
        assert made.life_ns >= 0

    @given(st.binary(max_size=300))
    def test_foreign_bytes(self, data: bytes) -> None:
        """Are told as damage, and are nothing else."""
        with pytest.raises(IdentityError, match="damaged"):
            parse_facts(data, "facts.json")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("serial", "12 34"),
            ("serial", "1" * 41),
            ("agent", "../etc"),
            ("not_after_ns", -1),
            ("fingerprint", "A" * 64),
            ("key", "0" * 16 + "\n"),
        ],
    )
    def test_fields_are_bounded(self, field: str, value: object) -> None:
        """What is shown to people and put into messages has a shape."""
        body = msgspec.to_builtins(facts()) | {field: value}
        with pytest.raises(IdentityError, match=field):
            parse_facts(msgspec.json.encode(body), "facts.json")

    def test_a_file(self, tmp_path: Path) -> None:
        """None where there is none; too large, or a folder, is told."""
        path = tmp_path / "facts.json"
        assert read_facts(path) is None
        path.write_bytes(facts().encode())
        assert read_facts(path) == facts()
        path.write_bytes(facts().encode() + b" " * LARGEST_FACTS)
        with pytest.raises(IdentityError, match="more than 4096 bytes"):
            read_facts(path)
        with pytest.raises(IdentityError, match="cannot be read"):
            read_facts(tmp_path)
