# SPDX-License-Identifier: Apache-2.0
"""What tests of every package may ask for."""

import gc
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import groupby
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from tests import exported

NOBODY = 65534

# How long an example takes says more of the machine than of the code.
settings.register_profile("fedmill", deadline=None)
settings.load_profile("fedmill")


@pytest.hookimpl(trylast=True)  # of those that are left by the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every worker begins with its share of the long tests, and all end with short ones.

    ``--dist worksteal`` gives each worker one piece of this list; who is done takes from the end
    of another's piece. So what is left at the end of the suite is short, and nobody waits for it.
    """
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    short = deque(item for item in items if not _is_long(item))
    ordered: list[pytest.Item] = []
    for number, share in enumerate(_shares(items, workers)):
        size = (len(items) - len(ordered)) // (workers - number)
        fill = min(len(short), max(0, size - len(share)))
        ordered += share + [short.popleft() for _ in range(fill)]
    items[:] = [*ordered, *short]


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not look at it again.

    What tests leave is looked at less often too: servers of stands make millions of objects.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _shares(items: Iterable[pytest.Item], workers: int) -> list[list[pytest.Item]]:
    """The long tests in about equal shares; those of a file, which may share a fixture, in one."""
    files = [list(file) for _, file in groupby(filter(_is_long, items), key=lambda item: item.path)]
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for file in sorted(files, key=len, reverse=True):
        min(shares, key=len).extend(file)
    return shares


def _is_long(item: pytest.Item) -> bool:
    slow = item.get_closest_marker("slow") is not None
    return slow or item.path.parent.name == "system"


@pytest.fixture(scope="session", autouse=True)
def exports_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What one process exports to ONNX serves all others of this run, its other workers too."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports"
    folder.mkdir(exist_ok=True)
    os.environ[exported.FOLDER] = str(folder)
    if "torch" in sys.modules:  # without it nothing is exported here
        exported.share(folder)


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a real broker; mosquitto is required, as on a plant server."""
    from fedmill_coordinator.demo.broker import broker

    with broker(tmp_path_factory.mktemp("mosquitto")) as port:
        yield port


@pytest.fixture
def data_folder() -> Path:
    """Folder of the real data sets: FEDMILL_DATA, or shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("FEDMILL_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set FEDMILL_DATA")
    return folder


@pytest.fixture
def as_nobody() -> Callable[[], AbstractContextManager[None]]:
    """Act as a user who owns nothing: no permission stops root."""

    @contextmanager
    def act() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    return act


@pytest.fixture(autouse=True)
def no_log_configuration_left() -> Iterator[None]:
    """A command that was run inside a test leaves no stream behind that the test has closed."""
    yield
    structlog.reset_defaults()
