# SPDX-License-Identifier: Apache-2.0
"""No fault of one message, job or disk ends the scoring of the others."""

from collections.abc import Callable

from fedmill_shared.errors import BrokerError, FedmillError, FrameError
from fedmill_shared.log import Logger


def guarded(log: Logger, what: Callable[[], None]) -> None:
    """Do ``what``; what goes wrong with it is logged, and only a fault of the program passes."""
    try:
        what()
    except (FrameError, BrokerError) as error:
        log.warning("message.refused", error=str(error))
    except FedmillError as error:
        kind = type(error).__name__
        log.error("event.failed", kind=kind, error=str(error))  # noqa: TRY400  no fault of ours
