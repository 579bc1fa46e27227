# SPDX-License-Identifier: Apache-2.0
"""Machines for the tests of the deployment, and why there are none where none can be booted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.deploy.lab import BootError, Lab, impediment
from tests.deploy.rootfs import RootfsError, rootfs


@pytest.fixture(scope="session")
def debian() -> Path:
    """A Debian 12 to boot machines from."""
    reason = impediment()
    if reason:
        pytest.skip(reason)
    try:
        return rootfs()
    except RootfsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def lab(debian: Path) -> Iterator[Lab]:
    """A network of its own, in which a machine has been seen to boot."""
    with Lab(debian) as made:
        try:
            probe = made.machine("probe")
            probe.up()
        except BootError as error:
            pytest.skip(f"systemd does not boot here: {error}")
        probe.power_off(pull=True)
        yield made
