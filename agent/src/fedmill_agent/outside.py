# SPDX-License-Identifier: Apache-2.0
"""What the seats of an agent reach the world with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig
from fedmill_agent.inference.installing.around import nothing
from fedmill_agent.inference.installing.gates import Unsigned, Verifier
from fedmill_agent.store.space import Level, ample
from fedmill_agent.streams import Fed
from fedmill_agent.training import protocol
from fedmill_shared.audit import Audit, NoAudit
from fedmill_shared.clock import Clock
from fedmill_shared.link.backoff import full_jitter

if TYPE_CHECKING:
    from fedmill_agent.labels.desk import LabelDesk
    from fedmill_agent.publishing.outlet import Outlet
    from fedmill_agent.sources.hub import Hub


@dataclass(frozen=True, slots=True)
class Outside:
    """What a seat reaches the world with; shared by all seats of an agent.

    ``obstacle`` says why this machine may not train now, ``jitter`` draws a wait up to a longest,
    ``level`` says how much space the disk has; ``hub`` has the live sources, if there are any, and
    ``labels`` what people and other systems said. ``background`` does what would hold up the loop,
    ``disk`` waits for a slow one, ``hurry`` lets others hear soon of what has changed, and
    ``outlet`` is where predictions and alarms go out to, if they do; ``verifier`` says who signed,
    and ``audit`` records what scores.
    """

    config: AgentConfig
    send: Callable[[str, Struct | bytes], None]
    submit: Callable[[protocol.Request], None]
    number: Callable[[], int]
    feed: Callable[[Fed], bool]
    clock: Clock
    obstacle: Callable[[], str] = str
    jitter: Callable[[float], float] = full_jitter
    level: Callable[[], Level] = ample
    hub: "Hub | None" = None
    labels: "LabelDesk | None" = None
    background: Background = field(default_factory=Background)
    disk: Background = field(default_factory=Background)
    hurry: Callable[[], None] = nothing
    outlet: "Outlet | None" = None
    verifier: Verifier = field(default_factory=Unsigned)
    audit: Audit = field(default_factory=NoAudit)
