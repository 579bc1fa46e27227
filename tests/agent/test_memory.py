# SPDX-License-Identifier: Apache-2.0
"""What the daemon does to stay small, and what must not come of it."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from fedmill_agent.memory import untouched_code
from fedmill_agent.status import anonymous_bytes, resident_bytes

LIBRARY = "/onnxruntime/"
OURS = "/usr/lib/site-packages/onnxruntime/capi/state.so"

PATHS = st.sampled_from(
    [OURS, "/usr/lib/libc.so.6", "/opt/my plant/onnxruntime/x.so", "[heap]", ""]
)
MAPPINGS = st.lists(
    st.tuples(
        st.integers(1, 1 << 30),
        st.sampled_from(["r-xp", "r--p", "rw-p", "r-xs"]),
        PATHS,
        st.sampled_from([0, 4, 1024]),
    ),
    max_size=8,
)


def mapping(begin: int, end: int, rights: str, path: str, changed: int) -> list[str]:
    """A mapping as Linux describes it."""
    return [
        f"{begin:x}-{end:x} {rights} 000e9000 fe:00 5407804                    {path}",
        "Rss:               15600 kB",
        f"Anonymous:      {changed:>8} kB",
        "AnonHugePages:         0 kB",
        "VmFlags: rd ex mr mw me sd",
    ]


class TestUntouchedCode:
    def test_is_the_code_of_one_library(self) -> None:
        """Neither its data nor what others have."""
        smaps = [
            *mapping(0x1000, 0x2000, "r--p", OURS, 0),
            *mapping(0x2000, 0x9000, "r-xp", OURS, 0),
            *mapping(0x9000, 0xA000, "rw-p", OURS, 4),
            *mapping(0xB000, 0xC000, "r-xp", "/usr/lib/libc.so.6", 0),
        ]
        assert list(untouched_code(smaps, LIBRARY)) == [(0x2000, 0x9000)]

    def test_what_was_changed_in_memory_is_left_alone(self) -> None:
        """A debugger's stop would be gone, or what a loader has put right: then the process is."""
        smaps = [
            *mapping(0x1000, 0x2000, "r-xp", OURS, 4),
            *mapping(0x2000, 0x3000, "r--p", "/usr/lib/libc.so.6", 0),
        ]
        assert list(untouched_code(smaps, LIBRARY)) == []

    @given(MAPPINGS)
    def test_whatever_else_is_mapped(self, mappings: list[tuple[int, str, str, int]]) -> None:
        """Each mapping is judged by itself."""
        smaps, wanted, at = list[str](), list[tuple[int, int]](), 0
        for size, rights, path, changed in mappings:
            smaps += mapping(at, at + size, rights, path, changed)
            if rights == "r-xp" and LIBRARY in path and not changed:
                wanted.append((at, at + size))
            at += size
        assert list(untouched_code(smaps, LIBRARY)) == wanted


class TestReturnCode:
    def run(self, code: str) -> str:
        """What ``code`` prints, in an interpreter of its own that has ONNX Runtime."""
        before = (
            "import re, fedmill_shared.onnx_session, onnxruntime\n"
            "from fedmill_agent.memory import return_code\n"
            "CODE = re.compile(r'r-xp .*/onnxruntime/.*\\n(?:\\w+: .*\\n)*?Rss: +(\\d+)')\n"
            "def mapped():\n"
            "    return sum(map(int, CODE.findall(open('/proc/self/smaps').read())))\n"
        )
        child = subprocess.run(
            [sys.executable, "-c", before + code], check=False, capture_output=True, text=True
        )
        assert child.returncode == 0, child.stderr[-2000:]
        return child.stdout.strip()

    def test_the_library_works_as_before(self) -> None:
        """What is called is there again, and less is mapped than all that has ever run."""
        code = (
            "before = mapped()\n"
            "return_code('/onnxruntime/')\n"
            "left = mapped()\n"
            "print(onnxruntime.get_available_providers()[-1], 2 * left < before, left < mapped())\n"
        )
        assert self.run(code) == "CPUExecutionProvider True True"

    def test_happens_once(self) -> None:
        """What has run again since is what is needed."""
        code = (
            "return_code('/onnxruntime/')\n"
            "onnxruntime.get_available_providers()\n"
            "before = mapped()\n"
            "return_code('/onnxruntime/')\n"
            "print(before > 0, mapped() == before)\n"
        )
        assert self.run(code) == "True True"

    def test_of_a_library_that_is_not_there(self) -> None:
        """Nothing happens."""
        assert self.run("b = mapped()\nreturn_code('/no-such/')\nprint(mapped() >= b)\n") == "True"


def test_what_is_no_part_of_a_file() -> None:
    """A part of what is resident: an interpreter and its libraries are files for the rest."""
    assert 0 < anonymous_bytes() < resident_bytes()
