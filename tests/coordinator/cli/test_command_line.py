# SPDX-License-Identifier: Apache-2.0
"""What every command of the coordinator has in common: errors are one line."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from fedmill_coordinator.cli import listing


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["dance"], "fedmill: No such command 'dance'. (see `fedmill --help`)"),
        (
            ["models", "stop", "coordinator.toml"],
            "fedmill: No such command 'stop'. (see `fedmill models --help`)",
        ),
        (["serve"], "fedmill: Missing argument 'CONFIG'. (see `fedmill serve --help`)"),
        (
            ["models", "promote", "coordinator.toml", "bearings"],
            (
                "fedmill: Got unexpected extra argument (bearings) "
                "(a job is named by --job, see `fedmill models promote --help`)"
            ),
        ),
        (
            ["rounds", "coordinator.toml", "bearings"],
            (
                "fedmill: Got unexpected extra argument (bearings) "
                "(a job is named by --job, see `fedmill rounds list --help`)"
            ),
        ),
        (["job", "check"], "fedmill: Missing argument 'FILE'. (see `fedmill job check --help`)"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], told: str, run: Callable[..., Result]) -> None:
    """Exit code 2, and one line that says what is wrong and where help is."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [told]


def test_no_command_shows_the_help(run: Callable[..., Result]) -> None:
    """All of it: there is no one thing that is wrong."""
    assert "Commands:" in run().stderr


def test_a_state_folder_of_another_user(
    empty: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 21: the file is named, and who may read it."""

    def refuse(*_given: object) -> None:
        raise PermissionError(13, "Permission denied", "/srv/fedmill/fedmill.sqlite")

    monkeypatch.setattr(listing, "load", refuse)
    result = run("jobs", empty)
    assert result.exit_code == 21
    assert result.stderr == (
        "fedmill: /srv/fedmill/fedmill.sqlite: Permission denied "
        "(run this as the user of the coordinator)\n"
    )


def test_a_database_that_may_only_be_read(
    plant: SimpleNamespace, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 21: who asks is told to be another user, and not to change rights."""
    reads_only = SimpleNamespace(access=lambda *_: False, W_OK=os.W_OK)
    monkeypatch.setattr(listing, "os", reads_only)
    result = run("jobs", plant.config)
    assert result.exit_code == 21
    assert "fedmill.sqlite: this user may not write it" in result.stderr
    assert "(run this as the coordinator's user)" in result.stderr
