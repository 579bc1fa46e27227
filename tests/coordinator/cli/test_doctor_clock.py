# SPDX-License-Identifier: Apache-2.0
"""``fedmill doctor`` and the clock: certificates and signed metadata are judged by it."""

import pytest

from fedmill_coordinator.doctor import machine


@pytest.mark.parametrize(
    ("command", "state", "told"),
    [
        (("echo", "yes"), "ok", "synchronised"),
        (("echo", "no"), "warning", "not synchronised"),
        (("echo", "perhaps"), "warning", "nothing tells whether it is right"),
        (("false",), "warning", "nothing tells whether it is right"),
        (("/nowhere/timedatectl",), "warning", "nothing tells whether it is right"),
    ],
)
def test_whether_somebody_sets_it(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], state: str, told: str
) -> None:
    """What the service manager says; a warning says what to do."""
    monkeypatch.setattr(machine, "TIME_COMMAND", command)
    (found,) = machine.clock()
    assert (found.state, found.detail) == (state, told)
    assert bool(found.remedy) is (state != "ok")
