# SPDX-License-Identifier: Apache-2.0
"""What is looked at by `fedmill doctor`: each check by itself, with a remedy."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

State = Literal["ok", "warning", "failed"]


class Finding(Struct, frozen=True):
    """What one check found.

    Attributes:
        check: its name.
        state: ``warning`` is to be seen to in time, ``failed`` now.
        detail: what was found.
        remedy: what is to be done, where something is.
    """

    check: str
    state: State
    detail: str
    remedy: str = ""


Findings = Iterator[Finding]
