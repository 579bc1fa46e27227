# SPDX-License-Identifier: Apache-2.0
"""Opens the desk of trust between the line and the seats of a daemon."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from fedmill_agent.background import Background
from fedmill_agent.config import AgentConfig
from fedmill_agent.seats import Seats
from fedmill_agent.trust.desk import TrustDesk, Ways
from fedmill_shared.audit import Audit
from fedmill_shared.clock import Clock
from fedmill_shared.link.blocks import Block
from fedmill_shared.log import Logger
from fedmill_shared.messages import InstallReport

Send = Callable[[str, Struct | bytes], None]


def open_desk(
    config: AgentConfig,
    clock: Clock,
    log: Logger,
    *,
    background: Background,
    disk: Background,
    send: Send,
    seats: Callable[[], Seats],
    overlay: Callable[[], None],
    hurry: Callable[[], None],
    audit: Audit,
) -> TrustDesk:
    """The desk; ``seats`` gives those there are once the daemon runs.

    Raises:
        ConfigError: the shipped root is not there.
    """

    def take(kind: str, said: Struct | Block) -> None:
        seats().take(kind, said, retained=True)

    def reports() -> Mapping[str, InstallReport | None]:
        return {job: phase.install for job, phase in seats().phases().items()}

    ways = Ways(
        take=take,
        send=send,
        text=lambda job: seats().text(job),
        wants=lambda job: seats().wants(job),
        reports=reports,
        overlay=overlay,
        hurry=hurry,
        audit=audit,
    )
    return TrustDesk(config, clock, log, background=background, disk=disk, ways=ways)
