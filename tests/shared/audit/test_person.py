# SPDX-License-Identifier: Apache-2.0
"""Who is written down for a command."""

import os
import pwd
from pathlib import Path

import pytest

from fedmill_shared.audit.person import who

OWN = os.getuid()
NAME = pwd.getpwuid(OWN).pw_name


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's file: nobody has logged in, and there is no sudo."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    path = tmp_path / "loginuid"
    path.write_text(str(2**32 - 1))
    return path


def test_user(login: Path) -> None:
    """By name and number, since names can be given anew."""
    assert who(login) == f"{NAME} (uid {OWN})"


def test_variables_of_the_environment_say_nothing(
    login: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody can set those that `getpass` asks."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    assert who(login) == f"{NAME} (uid {OWN})"


def test_behind_sudo(login: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person, and as whom they act."""
    monkeypatch.setenv("SUDO_UID", "1")
    assert who(login) == f"{pwd.getpwuid(1).pw_name} (uid 1, as {NAME})"


def test_the_kernel_knows_better_than_sudo(login: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login is kept over `su` and `sudo`, and nobody without root changes it."""
    monkeypatch.setenv("SUDO_UID", "2")
    login.write_text("1")
    assert who(login) == f"{pwd.getpwuid(1).pw_name} (uid 1, as {NAME})"


@pytest.mark.parametrize("text", ["", "anna", "-1", "1e3", "9" * 30])
def test_nonsense_in_the_environment(
    login: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Is as good as nothing."""
    monkeypatch.setenv("SUDO_UID", text)
    assert who(login) == f"{NAME} (uid {OWN})"


def test_user_without_a_name(login: Path) -> None:
    """Is known by the number."""
    login.write_text("3999999999")
    assert who(login) == f"user (uid 3999999999, as {NAME})"


def test_kernel_without_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert who(tmp_path / "none") == f"{NAME} (uid {OWN})"
