# SPDX-License-Identifier: Apache-2.0
"""What tells whether the broker lets agent and coordinator speak to each other."""

from typing import Annotated

from msgspec import Meta, Struct


class Echo(Struct, frozen=True, kw_only=True):
    """A word of an agent that comes back as it is.

    Attributes:
        nonce: chosen at random, anew for each connection.
    """

    nonce: Annotated[bytes, Meta(min_length=8, max_length=32)]
