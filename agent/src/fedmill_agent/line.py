# SPDX-License-Identifier: Apache-2.0
"""The agent's line to the coordinator: what it listens to, what a message says, what it sends."""

from collections.abc import Callable

from msgspec import Struct

from fedmill_agent.config import AgentConfig
from fedmill_shared import topics
from fedmill_shared.clock import Clock
from fedmill_shared.errors import BrokerError, FrameError
from fedmill_shared.link.base import (
    Connected,
    Disconnected,
    Done,
    Link,
    Message,
    Rejection,
    Sink,
    Unheard,
)
from fedmill_shared.link.blocks import Block, parse_block
from fedmill_shared.link.rejections import Rejections
from fedmill_shared.link.rights import Rights, RightsTold, fresh_nonce
from fedmill_shared.log import Logger
from fedmill_shared.messages import ALL, DOWN, AgentState, Echo, decode, encode
from fedmill_shared.protocol import NEWEST

BACKLOG_LIMIT = 16
"""Messages on their way out before requests for blocks pass by; the coordinator asks again."""
ASK_SECONDS = 5.0
"""Between two words that the coordinator is to say again, while it has not."""
LONGEST_SILENCE_SECONDS = 3600.0
"""The same while nothing comes at all."""
ASKED_AGAIN = ("update", "block", "request")
"""What is sent anew after a reconnection, and must not pile up in a queue until then."""

Connect = Callable[[Sink, Message], Link]


def subscriptions(agent: str) -> list[str]:
    """Topics an agent listens to."""
    return [topics.down(agent, "#"), topics.broadcast("#", "").rstrip("/")]


def read(message: Message) -> tuple[str, Struct | Block]:
    """The kind of a message, and what it says.

    Raises:
        FrameError: the topic is of no kind that comes down to agents, or the message is damaged.
    """
    kind = topics.kind_of(message.topic)
    if kind == "block":
        return kind, parse_block(message.payload)
    known = DOWN if "/down/" in message.topic else ALL
    if kind not in known:
        raise FrameError(f"topic {message.topic!r} is of an unknown kind")
    return kind, decode(message.payload, known[kind])


class Line:
    """Owns the link to the broker.

    Attributes:
        connected: whether the broker has us.
    """

    def __init__(
        self,
        config: AgentConfig,
        connect: Connect,
        sink: Sink,
        log: Logger,
        clock: Clock,
        *,
        nonce: Callable[[], bytes] = fresh_nonce,
    ) -> None:
        """Nothing is connected yet; ``connect(sink, will)`` makes the link.

        ``nonce`` draws what the coordinator is asked to say again, where there is TLS.
        """
        self._agent = config.agent.id
        self._broker = f"{config.broker.host}:{config.broker.port}"
        self._log = log
        self._rejections = Rejections(self._tell, clock)
        self._rights: Rights | None = None
        if config.broker.tls is not None:
            own, foreign = (topics.up(each, "echo") for each in (self._agent, topics.NOBODY))
            self._rights = Rights(own, foreign, log, nonce)
        self._clock = clock
        self._ask_due = self._silence_due = 0.0
        self._silence = ASK_SECONDS
        self.connected = False
        self._link = connect(sink, self._word(AgentState(online=False, newest=NEWEST)))

    @property
    def crowded(self) -> bool:
        """Whether so much is on its way out that requests for more pass by."""
        return self._link.backlog >= BACKLOG_LIMIT

    @property
    def late(self) -> float:
        """Seconds for which the link's thread has been overdue; 0 while it works."""
        return self._link.late

    def start(self) -> None:
        """Begin to connect, and try for ever."""
        self._link.start()

    def renew(self) -> None:
        """Sign in anew, with the files as they are now; what waits to be sent stays."""
        self._link.renew()

    @property
    def rights(self) -> RightsTold | None:
        """What the broker lets us do; None for a link in the clear, where everybody may all."""
        return self._rights.told if self._rights is not None else None

    def echoed(self, echo: Echo) -> None:
        """The coordinator says our own word again."""
        if self._rights is not None:
            self._rights.answer(echo.nonce)

    def heard(self) -> None:
        """Something came: whoever did not answer our word may be there now."""
        now = self._clock.monotonic()
        if self._rights is None or self._rights.told.echoed or now < self._ask_due:
            return
        self._ask_due = now + ASK_SECONDS
        self._rights.ask(self._link)

    def wonder(self) -> None:
        """Nothing may ever come, as after the end of a job: ask then, too, ever more seldom.

        What is asked waits at the broker for a coordinator that is away: an hour lies between two.
        """
        now = self._clock.monotonic()
        if self._rights is None or self._rights.told.echoed or now < self._silence_due:
            return
        self._silence = min(2 * self._silence, LONGEST_SILENCE_SECONDS)
        self._silence_due = now + self._silence
        self.heard()

    def unheard(self, event: Unheard) -> None:
        """The broker does not let us listen to something."""
        self._log.error(
            "broker.unheard", topic=event.topic, reason=event.reason, remedy=event.remedy
        )

    def turn(self, event: Connected | Disconnected) -> None:
        """The broker has us, or has lost us."""
        self.connected = isinstance(event, Connected)
        if isinstance(event, Connected):
            self._log.info("broker.connected", session_present=event.session_present)
            if self._rights is not None:
                self._silence = ASK_SECONDS
                self._ask_due = self._silence_due = self._clock.monotonic() + ASK_SECONDS
                self._rights.test(self._link, lambda nonce: encode(Echo(nonce=nonce)))
            return
        remedy = f"{event.remedy}; " if event.remedy else ""
        self._log.error(
            "broker.unreachable",
            reason=event.reason,
            broker=self._broker,
            remedy=f"{remedy}scoring goes on, and the agent keeps trying",
        )

    def send(self, kind: str, message: Struct | bytes) -> None:
        """Send ``message``; one that does not go out, or that the broker refuses, is lost.

        That is logged, a rejection on the link's thread.
        """
        if kind in ASKED_AGAIN and not self.connected:
            return
        topic = topics.up(self._agent, kind)
        payload = message if isinstance(message, bytes) else encode(message)
        try:
            self._link.publish(topic, payload, retain=kind == "state", done=self._rejections.hear)
        except BrokerError as error:
            self._log.warning("message.unsent", kind=kind, error=str(error))

    def publish(self, kind: str, job: str, payload: bytes, done: Done) -> None:
        """Tell other systems; ``done`` is called, on another thread, with the broker's answer.

        Raises:
            BrokerError: it is larger than the broker takes.
        """
        self._link.publish(topics.out(self._agent, kind, job), payload, done=done)

    def leave(self, last: AgentState) -> None:
        """Say ``last``, if the broker has us, and hang up."""
        self._link.stop(self._word(last))

    def _tell(self, rejection: Rejection, messages: int) -> None:
        self._log.error(
            "broker.refused",
            topic=rejection.topic,
            reason=rejection.reason,
            messages=messages,
            remedy=rejection.remedy,
        )

    def _word(self, state: AgentState) -> Message:
        """What the agent says of itself, or the broker in its place."""
        return Message(topics.up(self._agent, "state"), encode(state))
