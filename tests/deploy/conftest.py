# SPDX-License-Identifier: Apache-2.0
"""Machines for the tests of the deployment, and why there are none where none can be booted."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.deploy.lab import BootError, Lab, impediment
from tests.deploy.rootfs import RootfsError, rootfs

LOGS = Path(__file__).resolve().parents[2] / "runs" / "deploy-logs"
"""Where the journals of machines are kept whose test has failed."""
_TAIL = 30


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failure goes what the machines have logged: its end is printed, the whole kept."""
    report = yield
    found = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(found, Lab):
        for machine in found.machines:
            text = machine.journal()
            path = LOGS / item.name.replace("/", "-") / f"{machine.name}.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            lines = [line for line in text.splitlines() if " ansible-" not in line]
            tail = "\n".join(lines[-_TAIL:])
            report.sections.append((f"{machine.name}; whole: {path}", tail))
    return report


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
