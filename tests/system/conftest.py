# SPDX-License-Identifier: Apache-2.0
"""Federations of real processes that have all ended when a test has."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from tests.system.fleet import Fleet, federation

from fedmill_coordinator.demo.recipes.plan import Plant
from fedmill_shared.job import Job


class Launch(Protocol):
    """Starts a federation; see ``federation``."""

    def __call__(
        self,
        job: Job | None = None,
        plants: Sequence[Plant] | None = None,
        *,
        only: Sequence[str] | None = None,
    ) -> Fleet:
        """A federation of which ``only`` these processes are started at once."""
        ...


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start a federation that has ended, whatever happens, when the test has."""
    with ExitStack() as stack:

        def start(
            job: Job | None = None,
            plants: Sequence[Plant] | None = None,
            *,
            only: Sequence[str] | None = None,
        ) -> Fleet:
            return stack.enter_context(federation(tmp_path / "fleet", job, plants, only=only))

        yield start
