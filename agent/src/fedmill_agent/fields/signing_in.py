# SPDX-License-Identifier: Apache-2.0
"""Fields of whatever has to be signed in to."""

from typing import Annotated

from msgspec import Meta, Struct

LOCAL = ("127.0.0.1", "::1", "localhost")
"""Hosts on the way to which nobody can read a password."""

PasswordFile = Annotated[str, Meta(description="File with the user's password and nothing else.")]


def go_together(options: Struct, first: str, second: str) -> None:
    """Raise ValueError where one of two text fields is given and the other is not."""
    if bool(getattr(options, first)) != bool(getattr(options, second)):
        raise ValueError(f"`{first}` and `{second}` go together")
