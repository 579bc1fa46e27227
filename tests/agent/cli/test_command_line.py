# SPDX-License-Identifier: Apache-2.0
"""What every command of the agent has in common: errors are one line, whoever raised them."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmill_agent.cli import label, main
from fedmill_shared import __version__


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        ([], "fedmill-agent"),
        (["dance"], "fedmill-agent"),
        (["check"], "fedmill-agent check"),
        (["check", "a", "--jobb", "x"], "fedmill-agent"),
        (["label", "a", "--value", "3,25"], "fedmill-agent label"),
    ],
)
def test_a_wrong_command_line(
    arguments: list[str], program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and one line that says what is wrong and where help is."""
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("fedmill-agent: ")
    assert told.endswith(f"(see `{program} --help`)\n")
    assert told.count("\n") == 1


def test_the_version_names_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """As other programs do."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"fedmill-agent {__version__}\n"


def test_a_state_folder_of_another_user(
    configure: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 21: the file is named, and who may read it."""

    def refuse(path: Path, _most: int) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(label, "read_book", refuse)
    assert main(["label", str(configure()), "--list"]) == 21
    told = capsys.readouterr().err
    assert "labels.sqlite: Permission denied (run this as the user of the agent)" in told


def test_a_status_of_another_user(
    configure: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is not asked whether the agent was ever started."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    path = configure()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert main(["status", str(path)]) == 21
    assert "(run this as the user of the agent)" in capsys.readouterr().err


def test_training_where_torch_is_not_installed(
    configure: Callable[..., Path],
    job_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 10, as with every library that a gateway can do without."""
    for name in [name for name in sys.modules if name.startswith("fedmill_agent.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["fit", str(configure()), "--job", str(job_file)]) == 10
    told = capsys.readouterr().err
    assert "torch is not installed here (pip install fedmill-agent[train])" in told
