# SPDX-License-Identifier: Apache-2.0
"""How the parts of a coordinator speak to agents."""

from typing import Protocol

from msgspec import Struct


class Voice(Protocol):
    """Publishes for one job; the daemon counts the bytes."""

    def tell(self, job: str, agent: str, kind: str, message: Struct | bytes) -> None:
        """To one agent."""
        ...

    def broadcast(self, job: str, kind: str, message: Struct | bytes) -> None:
        """To all agents; structs are retained, blocks are not."""
        ...
