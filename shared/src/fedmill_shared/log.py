# SPDX-License-Identifier: Apache-2.0
"""Structured logging: dotted event names and key-value pairs, never prose."""

import os
import sys
from typing import TextIO

from fedmill_shared.lean import without
from fedmill_shared.printable import printable

with without(
    absent=["rich"],  # pretty tracebacks
    empty=["asyncio"],
    later={
        "pickle": {"PicklingError": TypeError},  # of a logger that somebody pickles
        "structlog.stdlib": {},
        "structlog.threadlocal": {},
    },
):
    import structlog

    from fedmill_shared.journal import Calm, Grave, goes_to_journal

Logger = structlog.typing.FilteringBoundLogger

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Send events as one line each (``key=value``) to ``stream`` (default standard error).

    A line for the journal begins with its priority. More than 60 warnings or errors of one name in
    a minute are counted instead.
    """
    target = stream or sys.stderr
    logfmt = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"])
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            Calm(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _printable,
            Grave(logfmt) if goes_to_journal(target, os.environ) else logfmt,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=True,
    )


def get_logger(**context: str | int) -> Logger:
    """A logger that adds ``context`` to every event."""
    logger: Logger = structlog.get_logger(**context)
    return logger


def _printable(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape what could forge lines or steer a terminal: texts come from other machines too."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = printable(value, keep="\n")  # the renderer's own affair
    return event
