# SPDX-License-Identifier: Apache-2.0
"""How the parts of a job reach the outside."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import Struct

from fedmill_agent.training import protocol


@dataclass(frozen=True, slots=True)
class Ports:
    """What a participation may do to the outside; injected, so that tests can watch it.

    Attributes:
        send: publish a message or block of a kind.
        submit: hand work to the trainer.
        number: the next free task number.
        obstacle: why nothing may be trained on this machine now; empty if it may.
        identity: file with the key that updates are signed with; empty where they are not.
    """

    send: Callable[[str, Struct | bytes], None]
    submit: Callable[[protocol.Request], None]
    number: Callable[[], int]
    obstacle: Callable[[], str] = str
    identity: Callable[[], str] = str
