# SPDX-License-Identifier: Apache-2.0
"""What a connection to a broker is, whatever carries it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fedmill_shared.errors import BrokerError

LARGEST_PACKET = 300_000
"""What every broker of ours takes: a block with room to spare."""
PACKET_OVERHEAD = 512


def lost_in_words(reason: str) -> str:
    """Why a connection is lost, where MQTT has no reason: nothing was said before it ended."""
    return "the broker closed it without a word" if reason == "Unspecified error" else reason


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker has accepted us and all subscriptions were sent."""

    session_present: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone or could not be made; it is being retried.

    ``remedy`` is the operator's next action, where the reason tells one.
    """

    reason: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``retained`` if it is the broker's stored copy, not a fresh one."""

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """The broker has answered a message, and passes it on to nobody.

    ``reason`` is the broker's, ``remedy`` the operator's next action.
    """

    topic: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Unheard:
    """The broker does not let us listen to ``topic``; ``remedy`` is the operator's next action."""

    topic: str
    reason: str
    remedy: str


LinkEvent = Connected | Disconnected | Message | Unheard
Sink = Callable[[LinkEvent], None]
Done = Callable[[Rejection | None], None]
"""Told of the broker's answer to a message: None if it has it."""


class Link(Protocol):
    """A connection that delivers events to a sink, from a thread of its own, in order."""

    @property
    def backlog(self) -> int:
        """Messages given to ``publish`` that the broker has not answered yet."""
        ...

    @property
    def late(self) -> float:
        """Seconds for which its thread has been overdue; 0 while it works or rests."""
        ...

    def start(self) -> None:
        """Begin to connect; returns at once and keeps trying for ever."""
        ...

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        done: Done | None = None,
    ) -> None:
        """Queue a message with QoS 1; ``done`` is called once the broker has answered it.

        That is on the link's own thread, or before this returns; it must not wait. A message that
        the broker refuses is lost: whether it is sent again is the caller's to decide.

        Raises:
            BrokerError: the message is larger than the broker takes, or the queue is full.
        """
        ...

    def renew(self) -> None:
        """Connect anew, to take up files that prove who we are and have been exchanged.

        Session, will and what waits to be sent stay. Returns at once; ``Connected`` comes again,
        or ``Disconnected`` if the new files do not serve.
        """
        ...

    def stop(self, farewell: Message | None = None) -> None:
        """Send ``farewell`` if connected, then disconnect and end the thread."""
        ...


def check_size(topic: str, payload: bytes, largest_packet: int) -> None:
    """Raise BrokerError if a message does not fit a packet of ``largest_packet`` bytes."""
    if len(payload) + len(topic) + PACKET_OVERHEAD > largest_packet:
        raise BrokerError(
            f"{topic}: {len(payload)} bytes, but the broker takes packets of at most "
            f"{largest_packet} bytes",
            remedy=f"raise max_packet_size of the broker to {LARGEST_PACKET} or more",
        )


def topic_matches(pattern: str, topic: str) -> bool:
    """Whether ``topic`` is within an MQTT subscription ``pattern`` (MQTT 5.0, section 4.7)."""
    if topic.startswith("$") and pattern[:1] in ("+", "#"):
        return False
    wanted, found = pattern.split("/"), topic.split("/")
    for i, part in enumerate(wanted):
        if part == "#":
            return True
        if i >= len(found) or part not in ("+", found[i]):
            return False
    return len(wanted) == len(found)
