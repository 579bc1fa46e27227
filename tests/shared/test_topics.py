# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import FrameError
from fedmill_shared.messages import ALL, DOWN, UP
from fedmill_shared.topics import (
    ENROL_CA,
    ENROL_UP,
    RESERVED,
    broadcast,
    down,
    enrol_down,
    kind_of,
    parse_up,
    up,
    valid_agent_id,
)

AGENTS = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True).filter(
    lambda agent: agent not in RESERVED
)
LONGEST = "x" * 32


class TestNames:
    def test_literal(self) -> None:
        """The tree as it stands in every access list."""
        assert up("press-1", "join") == "fedmill/v1/press-1/up/join"
        assert down("press-1", "receipt") == "fedmill/v1/press-1/down/receipt"
        assert broadcast("round", "rig") == "fedmill/v1/all/round/rig"
        assert ENROL_CA == "fedmill/v1/enrol/ca"
        assert ENROL_UP == "fedmill/v1/enrol/up"
        assert enrol_down(b"") == "fedmill/v1/enrol/down/e3b0c44298fc1c149afbf4c8996fb924"

    def test_fits_a_public_cloud_broker(self) -> None:
        """At most seven slashes and 256 bytes, with the longest names there are."""
        topics = [up(LONGEST, kind) for kind in (*UP, "block")]
        topics += [down(LONGEST, kind) for kind in (*DOWN, "block")]
        topics += [broadcast(kind, LONGEST) for kind in (*ALL, "block")]
        assert max(topic.count("/") for topic in topics) <= 7
        assert max(len(topic.encode()) for topic in topics) <= 256

    @given(agent=AGENTS, kind=st.sampled_from([*UP, "block"]))
    def test_up_is_parsed_back(self, agent: str, kind: str) -> None:
        """Agent and kind come out as they went in."""
        assert parse_up(up(agent, kind)) == (agent, kind)

    @given(agent=AGENTS, job=AGENTS)
    def test_kind_of_what_comes_down(self, agent: str, job: str) -> None:
        """For one agent it stands last, for all it stands before the job."""
        assert {kind_of(down(agent, kind)) for kind in DOWN} == set(DOWN)
        assert {kind_of(broadcast(kind, job)) for kind in (*ALL, "block")} == {*ALL, "block"}


class TestParseUp:
    @pytest.mark.parametrize(
        "topic",
        [
            "",
            "fedmill/v1/press-1/up",
            "fedmill/v1/press-1/up/join/now",
            "fedmill/v2/press-1/up/join",
            "fedmill/v1/press-1/down/receipt",
            "/fedmill/v1/press-1/up/join",
            "fedmill/v1//up/join",
            "fedmill/v1/all/up/join",
            "fedmill/v1/enrol/up/join",
            "fedmill/v1/enrol/up",
            "fedmill/v1/Press/up/join",
            "fedmill/v1/press-1\n/up/join",
            "fedmill/v1/../up/join",
            f"fedmill/v1/{LONGEST}x/up/join",
        ],
    )
    def test_foreign(self, topic: str) -> None:
        """The error quotes the topic."""
        with pytest.raises(FrameError) as error:
            parse_up(topic)
        assert repr(topic) in str(error.value)

    @given(topic=st.text(max_size=60) | st.text(max_size=40).map("fedmill/v1/{}/up/x".format))
    def test_any_text(self, topic: str) -> None:
        """A FrameError, or an agent that is valid."""
        try:
            agent, _ = parse_up(topic)
        except FrameError:
            return
        assert valid_agent_id(agent)


class TestAgentId:
    @pytest.mark.parametrize("agent", ["a", "press-1", "0", "-", LONGEST, "all-presses"])
    def test_valid(self, agent: str) -> None:
        """What a certificate may name."""
        assert valid_agent_id(agent)

    @pytest.mark.parametrize(
        "agent",
        [
            "",
            "all",
            "enrol",
            "Press",
            "press_1",
            "press 1",
            "press/1",
            "+",
            "#",
            "é",
            "a\n",
            "x" * 33,
        ],
    )
    def test_invalid(self, agent: str) -> None:
        """Wildcards, separators, capitals and the reserved name."""
        assert not valid_agent_id(agent)
