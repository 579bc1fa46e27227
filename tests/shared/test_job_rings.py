# SPDX-License-Identifier: Apache-2.0
"""Which rings a job file may list, in words that say what to write instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import JobError
from fedmill_shared.job.rings import Canary, Share, ring_kind
from fedmill_shared.job_check import decode_job
from fedmill_shared.selector import Selector

START = """\
[job]
name = "rig"
[[signals]]
name = "a"
[labels]
classes = ["good", "bad"]
[rollout]
"""
LAST = 'release = "last"\n'
BROKEN = {
    LAST + 'rings = ["10 %", "5 %", "fleet"]': (
        '9: rollout.rings[1] is "5 %": a ring before it is 10 % already (let the shares go up)'
    ),
    LAST + 'rings = ["10 %", "10%", "fleet"]': (
        '9: rollout.rings[1] is "10%": a ring before it is 10 % already (let the shares go up)'
    ),
    LAST + 'rings = ["fleet", "canary"]': (
        '9: rollout.rings[1] is "canary": the ring before it is the whole fleet '
        "(remove it, or move it before)"
    ),
    LAST + 'rings = ["100 %", "fleet"]': (
        '9: rollout.rings[1] is "fleet": the ring before it is the whole fleet '
        "(remove it, or move it before)"
    ),
    LAST + 'rings = ["10 %", "canary", "fleet"]': (
        '9: rollout.rings[1] is "canary": one agent says nothing after others '
        "(let it be the first ring)"
    ),
    LAST + 'rings = [\'line == "A"\', \'line == "A"\', "fleet"]': (
        '9: rollout.rings[1] is "line == \\"A\\"": the ring is listed twice (remove one of them)'
    ),
    LAST + 'rings = ["canary", "10 %"]': (
        '9: rollout.rings[1] is "10 %": the rest of the fleet would never get a release '
        '(let "fleet" be the last ring; federation.select says whom the job is for)'
    ),
    LAST + 'rings = ["0 %", "fleet"]': (
        "9: rollout.rings[0] is '0 %': a share is more than 0 and at most 100 % "
        '(write it as in "10 %")'
    ),
    LAST + 'rings = ["101 %"]': (
        "9: rollout.rings[0] is '101 %': a share is more than 0 and at most 100 % "
        '(write it as in "10 %")'
    ),
    LAST + 'rings = ["  ", "fleet"]': (
        "9: rollout.rings[0] is '  ': it asks for no label "
        '(write "canary", "10 %", "fleet", or a selector such as line == "A")'
    ),
    'rings = ["canary", "fleet"]': (
        '8: rollout.rings is ["canary", "fleet"]: release = "each" goes to every agent at once '
        '(write release = "better", "last" or "manual" below [rollout], or remove the rings)'
    ),
    LAST + "soak_seconds = 5.0": (
        "9: rollout.soak_seconds is 5.0: there is one ring, and so nothing between two "
        '(write rings = ["canary", "fleet"], or remove it)'
    ),
    'release = "better"\n[evaluation]\ntest = 0.0': (
        '8: rollout.release is "better": evaluation.test = 0 leaves no windows to compare versions '
        'on (hold some out, or write release = "last" or "manual")'
    ),
}


class TestRing:
    @given(st.integers(1, 10_000))
    def test_a_share(self, hundredths: int) -> None:
        """With or without a blank, with or without a decimal."""
        percent = hundredths / 100
        assert ring_kind(f"{percent} %") == ring_kind(f"{percent}%") == Share(percent)

    def test_words(self) -> None:
        """One agent, all of them, or those that a selector names."""
        assert ring_kind("canary") == Canary()
        assert ring_kind("fleet") == Share(100.0)
        line = ring_kind('line == "A"')
        assert isinstance(line, Selector)
        assert line.matches({"line": "A"})

    @given(st.text(max_size=30))
    def test_anything_else_is_refused(self, text: str) -> None:
        """With an error that people understand, and with no other."""
        kind: object = None
        try:
            kind = ring_kind(text)
        except JobError as error:
            kind = error.remedy
        assert isinstance(kind, Canary | Share | Selector | str)


class TestRules:
    @pytest.mark.parametrize(("lines", "error"), BROKEN.items())
    def test_a_broken_one_is_told_with_its_remedy(self, lines: str, error: str) -> None:
        """The line, the field, its value, what is wrong with it, and what to do."""
        with pytest.raises(JobError) as refused:
            decode_job(START + lines, "rig.toml")
        assert str(refused.value) == f"rig.toml:{error}"

    def test_a_ring_that_is_no_selector(self) -> None:
        """The selector's own error, with the ring that it is in."""
        with pytest.raises(JobError, match=r"9: rollout\.rings\[0\] is 'line = \"A\"': selector"):
            decode_job(START + LAST + 'rings = [\'line = "A"\', "fleet"]', "rig.toml")

    @pytest.mark.parametrize(
        "lines",
        [
            'rings = ["canary", "10 %", "fleet"]\nsoak_seconds = 60.0',
            'rings = ["canary", "line == \\"A\\"", "1 %", "50 %", "100 %"]',
            "abort_share = 0.0\nabort_after = 3\ntimeout_seconds = 1.0",
        ],
    )
    @pytest.mark.parametrize("release", ["better", "last", "manual"])
    def test_what_goes_up_to_the_fleet_is_a_rollout(self, lines: str, release: str) -> None:
        """Any number of rings, the last of which is everybody."""
        job = decode_job(f'{START}release = "{release}"\n{lines}', "rig.toml")
        assert job.rollout.release == release
