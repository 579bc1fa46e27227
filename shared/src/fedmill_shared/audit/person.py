# SPDX-License-Identifier: Apache-2.0
"""Who gives a command, as the operating system knows them."""

import os
from pathlib import Path

from fedmill_shared.printable import printable

LOGIN = Path("/proc/self/loginuid")
"""Set once by the login and inherited by ``sudo`` and ``su``, so that neither hides a person."""
NOBODY_LOGGED_IN = 2**32 - 1
_LONGEST = 64


def who(login: Path = LOGIN) -> str:
    """The person behind this process with their user id, and as whom they act.

    As in ``anna (uid 1000)``, or ``anna (uid 1000, as fedmill)`` behind ``sudo`` or ``su``.
    """
    own = os.getuid()
    behind = _logged_in(login)
    if behind is None or behind == own:
        behind = _behind_sudo(own)
    if behind == own:
        return f"{_name(own)} (uid {own})"
    return f"{_name(behind)} (uid {behind}, as {_name(own)})"


def _logged_in(login: Path) -> int | None:
    try:
        number = int(login.read_text())
    except (OSError, ValueError):
        return None
    return None if number == NOBODY_LOGGED_IN else number


def _behind_sudo(own: int) -> int:
    text = os.environ.get("SUDO_UID", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else own


def _name(number: int) -> str:
    import pwd  # noqa: PLC0415  for commands, not for daemons

    try:
        return printable(pwd.getpwuid(number).pw_name)[:_LONGEST]
    except (KeyError, OverflowError):
        return "user"
