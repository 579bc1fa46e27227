# SPDX-License-Identifier: Apache-2.0
"""``fedmill serve`` as a process: how it starts, and the codes that it ends with."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import tomli_w

from fedmill_coordinator.demo.broker import free_port
from fedmill_coordinator.demo.processes import program
from fedmill_shared.audit.verifying import entries
from fedmill_shared.job import Job

pytestmark = pytest.mark.system

PATIENCE = 120


@pytest.fixture
def configure(tmp_path: Path, tiny_job: Callable[..., Job]) -> Callable[..., Path]:
    """A configuration with one job for the broker on a port."""

    def make(port: int, seconds: float = 30.0, jobs: tuple[str, ...] = ("job.toml",)) -> Path:
        (tmp_path / "job.toml").write_text(tomli_w.dumps(msgspec.to_builtins(tiny_job())))
        path = tmp_path / "coordinator.toml"
        body = {
            "coordinator": {"jobs": list(jobs), "id": f"test-{port}"},
            "broker": {"port": port, "connect_seconds": seconds},
        }
        path.write_text(tomli_w.dumps(body))
        return path

    return make


@contextmanager
def serving(config: Path) -> Iterator["subprocess.Popen[str]"]:
    """The process; it has ended when the context has."""
    child = subprocess.Popen(
        program("fedmill_coordinator", "serve", config),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def ended(config: Path) -> tuple[int, str]:
    """Exit code and last line of a process that is to end by itself."""
    with serving(config) as child:
        _, errors = child.communicate(timeout=PATIENCE)
    return child.returncode, errors.strip().splitlines()[-1]


def wait_for(child: "subprocess.Popen[str]", event: str) -> None:
    """Read its log until ``event``; its end is the end of the wait."""
    assert child.stderr is not None
    seen = []
    for line in child.stderr:
        seen.append(line)
        if f"event={event}" in line:
            return
    raise AssertionError("".join(seen))


class TestServe:
    """Exit codes, and what must not happen."""

    def test_no_broker(self, configure: Callable[..., Path]) -> None:
        """It gives up after ``connect_seconds`` with exit code 20 and a remedy."""
        port = free_port()
        code, line = ended(configure(port, seconds=0.5))
        assert code == 20
        told = f"fedmill: 127.0.0.1:{port}: no broker answers: Connection refused (start the broker"
        assert line.startswith(told)

    def test_two_with_one_state_folder(
        self, configure: Callable[..., Path], mosquitto: int
    ) -> None:
        """The second one leaves the first one's database alone; SIGTERM ends the first one well."""
        config = configure(mosquitto)
        with serving(config) as first:
            wait_for(first, "broker.connected")
            code, line = ended(config)
            assert code == 21
            assert "another coordinator is running with this state folder" in line
            first.send_signal(signal.SIGTERM)
            wait_for(first, "coordinator.stopped")
            assert first.wait(PATIENCE) == 0

    def test_its_configuration_is_on_record(
        self, configure: Callable[..., Path], mosquitto: int
    ) -> None:
        """Once, as long as it is the same."""
        config = configure(mosquitto)
        for _ in range(2):
            with serving(config) as child:
                wait_for(child, "broker.connected")
        acts = [each.what for each in entries(config.parent / "state" / "audit.jsonl")]
        assert (acts.count("config.changed"), acts.count("coordinator.started")) == (1, 2)

    def test_a_killed_one_does_not_block_the_next(
        self, configure: Callable[..., Path], mosquitto: int
    ) -> None:
        """The lock dies with its process."""
        config = configure(mosquitto)
        for _ in range(2):
            with serving(config) as child:
                wait_for(child, "broker.connected")

    def test_an_audit_log_that_cannot_be_written(
        self, configure: Callable[..., Path], mosquitto: int
    ) -> None:
        """It works all the same, says so, and counts what is missing for its metrics."""
        config = configure(mosquitto)
        state = config.parent / "state"
        (state / "audit.jsonl").mkdir(parents=True)
        with serving(config) as child:
            wait_for(child, "audit.failed")
            wait_for(child, "broker.connected")
            child.send_signal(signal.SIGTERM)
            wait_for(child, "coordinator.stopped")
            assert child.wait(PATIENCE) == 0
        counted = msgspec.json.decode((state / "counts.json").read_bytes())
        assert counted["audit_records_lost"] >= 2

    def test_a_wrong_job(self, configure: Callable[..., Path]) -> None:
        """Exit code 11, and which file."""
        code, line = ended(configure(1883, jobs=("missing.toml",)))
        assert (code, "missing.toml" in line) == (11, True)

    def test_a_missing_configuration(self, tmp_path: Path) -> None:
        """Exit code 10."""
        assert ended(tmp_path / "none.toml")[0] == 10
