# SPDX-License-Identifier: Apache-2.0
"""Structured logging: dotted event names and key-value pairs, never prose."""

import sys
from typing import TextIO

# structlog.dev imports rich for pretty tracebacks, 4 MiB that a gateway never uses.
_had_rich = "rich" in sys.modules
if not _had_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

if not _had_rich:
    del sys.modules["rich"]

Logger = structlog.typing.FilteringBoundLogger

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Send events as one line each (``key=value``) to ``stream`` (default standard error)."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger(**context: str | int) -> Logger:
    """A logger that adds ``context`` to every event."""
    logger: Logger = structlog.get_logger(**context)
    return logger
