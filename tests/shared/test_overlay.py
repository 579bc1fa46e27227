# SPDX-License-Identifier: Apache-2.0
"""Remote configuration: what may be changed from afar, and how it lies over a file."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import ConfigError
from fedmill_shared.overlay import laid_over, read_overlay

ALLOWED = """
[agent]
jobs = ["press"]
log_level = "debug"
[training]
shifts = ["daily 22:00-06:00"]
max_cpu_percent = 50
[inference]
batch = 4
[sources.press-4]
interval_seconds = 2.5
"""


class TestReading:
    def test_rates_thresholds_shifts_level_and_jobs_are_taken(self) -> None:
        """And nothing is changed that is left out."""
        found = read_overlay(ALLOWED, "config/all.toml")
        assert found.agent.jobs == ["press"]
        assert found.training.nice is None
        assert found.sources["press-4"].interval_seconds == 2.5

    @pytest.mark.parametrize(
        "text",
        [
            '[broker]\nhost = "evil"',
            '[broker.tls]\nca = "evil.pem"',
            '[trust]\nroot = "evil.json"',
            '[agent]\nid = "other"',
            '[agent]\nstate = "/tmp"',
            '[sources.press-4]\nhost = "evil"',
            '[sources.press-4]\npath = "/etc/shadow"',
            '[sources.press-4]\nendpoint = "opc.tcp://evil"',
            '[[sources]]\nname = "new"',
            '[[labels]]\nname = "new"',
            '[inference]\npublish = "all"',
            "[store]\nmax_bytes = 1000000",
            "no toml",
        ],
    )
    def test_nothing_that_leads_elsewhere_is(self, text: str) -> None:
        """Broker, identity, trust, addresses, files, and what is given away."""
        with pytest.raises(ConfigError):
            read_overlay(text, "config/all.toml")

    @given(st.text(max_size=200))
    def test_whatever_comes_ends_in_one_error_or_none(self, text: str) -> None:
        """A signed file may be wrong, too."""
        with suppress(ConfigError):
            read_overlay(text, "config/all.toml")


class TestLaying:
    def test_the_last_one_is_topmost(self) -> None:
        """An agent's own lies over that of all."""
        every, own = (read_overlay(f"[training]\n{each}", "x") for each in ("nice = 1", "nice = 2"))
        data = {"training": {"nice": 19, "enabled": True}}
        assert laid_over(data, [every, own])["training"] == {"nice": 2, "enabled": True}
        assert laid_over(data, [own, every])["training"] == {"nice": 1, "enabled": True}
        assert data["training"]["nice"] == 19

    def test_a_source_is_found_by_its_name(self) -> None:
        """The others stay as they are; one that is not there is an error."""
        overlay = read_overlay("[sources.b]\nhold_seconds = 3", "x")
        sources = [{"name": "a", "kind": "opcua"}, {"name": "b", "kind": "opcua"}]
        found = laid_over({"sources": sources}, [overlay])["sources"]
        assert found == [sources[0], {**sources[1], "hold_seconds": 3}]
        with pytest.raises(ConfigError, match=r"sources\.b: the agent has no source"):
            laid_over({}, [overlay])
