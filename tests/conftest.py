# SPDX-License-Identifier: Apache-2.0
"""What tests of every package may ask for."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import structlog

NOBODY = 65534


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first: at the end of the suite no worker waits for the other's last one."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None and not _is_system(item))


def _is_system(item: pytest.Item) -> bool:
    return item.path.parent.name == "system"


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
