# SPDX-License-Identifier: Apache-2.0
"""What one connection does wrong ends nobody else."""

from contextlib import AbstractContextManager
from types import TracebackType


class Guard(AbstractContextManager["Guard"]):
    """Takes every exception, whatever a library for a foreign protocol or format raises.

    For the threads that have to go on: they tell it, and begin anew.

    Attributes:
        fault: what was taken; None where all went well.
    """

    fault: Exception | None = None

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        """Keep ``error`` unless it is to end the process."""
        self.fault = error if isinstance(error, Exception) else None
        return self.fault is not None
