# SPDX-License-Identifier: Apache-2.0
"""The launcher fails at the call that it was asked to fail at, and leaves all others alone."""

import argparse
import errno
import os
import signal
import subprocess
import sys
import threading
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest
from tests.faults import launch

LAUNCHER = Path(launch.__file__)
PROGRAM = """
import sys
from pathlib import Path
from fedmill_shared.errors import StoreError
from fedmill_shared.files import write_atomic

if __name__ == "__main__":
    folder = Path(sys.argv[-1]).parent / "state"
    folder.mkdir(exist_ok=True)
    for number in range(4):
        try:
            write_atomic(folder / f"file-{number}", b"x" * 8)
        except StoreError as error:
            print(type(error).__name__, number)
    print("ended")
"""


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A program that writes four files, with a fault."""
    (folder / "writer.py").write_text(PROGRAM)
    (folder / "agent.toml").write_text('[agent]\nid = "a"\n')
    return subprocess.run(
        [sys.executable, str(LAUNCHER), *arguments, "--", "writer", str(folder / "agent.toml")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )


def files(folder: Path) -> list[str]:
    """Names of whole files."""
    return sorted(path.name for path in folder.glob("file-*"))


class TestPoints:
    @pytest.mark.parametrize("target", launch.TARGETS.values())
    def test_every_one_names_a_function(self, target: str) -> None:
        """A function that is renamed must be renamed here too."""
        module, _, name = target.partition(":")
        assert callable(attrgetter(name)(import_module(module)))

    @pytest.mark.parametrize(
        ("point", "here"),
        [
            ("before-write:3", ["file-0", "file-1"]),
            ("before-rename:3", ["file-0", "file-1"]),
            ("after-rename:3", ["file-0", "file-1", "file-2"]),
            ("after-write", ["file-0"]),
        ],
    )
    def test_a_kill_comes_at_its_call(self, tmp_path: Path, point: str, here: list[str]) -> None:
        """Before or after it; the file of a rename that did not come is still another one."""
        done = run(tmp_path, point)
        assert done.returncode == -signal.SIGKILL
        assert files(tmp_path / "state") == here
        left = list((tmp_path / "state").glob(".file-*.tmp"))
        assert len(left) == (point == "before-rename:3")

    def test_a_refusal_comes_once(self, tmp_path: Path) -> None:
        """The calls before and after it work; the program takes it for an error of the system."""
        done = run(tmp_path, "before-fsync:3", "--then", "fail:ENOSPC")
        assert (done.returncode, done.stdout.split()) == (0, ["StoreError", "1", "ended"])
        assert files(tmp_path / "state") == ["file-0", "file-2", "file-3"]

    def test_a_copy_is_what_a_power_cut_leaves(self, tmp_path: Path) -> None:
        """Half of the file that was about to be synced; the program goes on."""
        copy = tmp_path / "copy"
        done = run(tmp_path, "before-fsync:3", "--then", f"copy:{copy}")
        assert done.stdout.split() == ["ended"]
        assert files(copy) == ["file-0"]
        (torn,) = copy.glob(".file-1.*")
        assert torn.read_bytes() == b"x" * 4
        assert len(files(tmp_path / "state")) == 4

    def test_a_point_that_never_comes(self, tmp_path: Path) -> None:
        """Nothing happens."""
        assert run(tmp_path, "before-write:9").stdout.split() == ["ended"]

    @pytest.mark.parametrize(
        "arguments",
        [["nowhere"], ["before-write:x"], ["before-write", "--then", "explode"]],
    )
    def test_nonsense_is_refused(self, tmp_path: Path, arguments: list[str]) -> None:
        """Before anything is started."""
        done = run(tmp_path, *arguments)
        assert done.returncode == 2
        assert not (tmp_path / "state").exists()


class TestTrigger:
    def test_acts_once_whatever_the_threads(self) -> None:
        """Each call counts once."""
        acted: list[int] = []
        trigger = launch.Trigger(100, lambda _arguments: acted.append(1))
        threads = [
            threading.Thread(target=lambda: [trigger(()) for _ in range(50)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert acted == [1]

    def test_a_refusal_is_an_error_of_the_system(self, tmp_path: Path) -> None:
        """With its number and its words."""
        with pytest.raises(OSError, match="No space") as caught:
            launch.action("fail:ENOSPC", tmp_path)(())
        assert caught.value.errno == errno.ENOSPC

    @pytest.mark.parametrize("text", ["", "copy", "copy:", "fail:EWHATEVER", "kill9"])
    def test_an_action_that_is_none(self, tmp_path: Path, text: str) -> None:
        """It is told what there is."""
        with pytest.raises(argparse.ArgumentTypeError, match="is not kill"):
            launch.action(text, tmp_path)


class TestState:
    @pytest.mark.parametrize(
        ("text", "folder"),
        [
            ('[agent]\nid = "a"\nstate = "there"\n', "there"),
            ('[coordinator]\nstate = "x/y"\n', "x/y"),
            ("[broker]\nport = 1\n", "state"),
            ('[agent]\nstate = "/var/a"\n', "/var/a"),
        ],
    )
    def test_folder_is_that_of_the_configuration(
        self, tmp_path: Path, text: str, folder: str
    ) -> None:
        """Relative to the file, as the programs have it."""
        (tmp_path / "x.toml").write_text(text)
        assert launch.state_of(tmp_path / "x.toml") == tmp_path / folder

    def test_a_descriptor_outside_is_left_alone(self, tmp_path: Path) -> None:
        """Only what lies in the state folder can be torn."""
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "a").write_bytes(b"1234")
        with (tmp_path / "else").open("wb") as other:
            launch.copy_state(tmp_path / "state", tmp_path / "copy", (other.fileno(),))
        assert (tmp_path / "copy" / "a").read_bytes() == b"1234"
