# SPDX-License-Identifier: Apache-2.0
"""A training process in a service of its own; the test accepts and starts as systemd does."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from fedmill_agent.config import TrainingSection
from fedmill_agent.training import protocol
from fedmill_agent.training.child import TrainerAnswered, TrainerDied, TrainerProcess
from fedmill_agent.training.memory_events import MemoryEvents, group_of, own_group
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import TrainerError

PATIENCE = 60.0
IMPORTS = """
import os, sys
from fedmill_agent.training import protocol
requests = os.fdopen(os.dup(0), "rb")
answers = os.fdopen(os.dup(1), "wb")
def hello():
    answers.write(b"FMTHELLO")
    answers.flush()
"""
ECHO = """
hello()
while (request := protocol.receive_request(requests)) is not None:
    text = str(os.getpid())
    protocol.send(answers, protocol.Failed(number=request.number, error="echo", message=text))
"""
SILENT = "hello()\nrequests.read()"
MUTE = "requests.read()"
QUITTER = "requests.read(1)"
RUDE = "answers.write(b'GET / HT')\nanswers.flush()\nrequests.read()"
NOISY = "hello()\nanswers.write(b'noise noise')\nanswers.flush()\nrequests.read()"
REAL = """
import os, sys, types
from fedmill_agent.training import protocol
class Worker:
    def answer(self, request):
        return protocol.Ready(number=request.number)
worker = types.ModuleType("fedmill_agent.training.worker")
worker.Worker, worker.quiet_torch = Worker, lambda: None
sys.modules[worker.__name__] = worker
from fedmill_agent.training.__main__ import main
main()
"""
CALLER = """
import os, signal, sys, time
from queue import SimpleQueue
from fedmill_agent.config import TrainingSection
from fedmill_agent.training import protocol
from fedmill_agent.training.child import TrainerProcess
from fedmill_shared.clock import SystemClock
answers = SimpleQueue()
process = TrainerProcess(TrainingSection(socket=sys.argv[1]), answers.put, SystemClock())
process.submit(protocol.Warm(number=1, job=b"{}", store="none"))
answers.get()
os.kill(process.pid, signal.SIGSTOP)
while "T (stopped)" not in open(f"/proc/{process.pid}/status").read():
    time.sleep(0.01)
print(process.pid, flush=True)
time.sleep(60)
"""


class Manager:
    """Listens, and starts ``program`` for each caller with the connection as both its streams."""

    def __init__(self, path: Path, program: str, **how: Any) -> None:
        self.path = str(path)
        self.children: list[subprocess.Popen[bytes]] = []
        self._program, self._how = program, how
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    command = [sys.executable, "-c", self._program]
                    child = subprocess.Popen(
                        command, stdin=connection, stdout=connection, **self._how
                    )
                    self.children.append(child)

    def close(self) -> None:
        """End all of them."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for child in self.children:
            child.kill()
            child.wait()


class Trainer:
    """A handle on what the manager starts, its answers and its clock."""

    def __init__(self, path: str, **settings: Any) -> None:
        self.clock = ManualClock()
        self._events: SimpleQueue[TrainerAnswered | TrainerDied] = SimpleQueue()
        section = TrainingSection(socket=path, **settings)
        self.process = TrainerProcess(section, self._events.put, self.clock)

    def event(self) -> Any:
        """What it said or did next."""
        return self._events.get(timeout=PATIENCE)

    def nothing(self) -> bool:
        """Whether there is no event."""
        return self._events.empty()


Start = Callable[..., tuple[Trainer, Manager]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Makes handles and managers whose processes run a program of the test's own."""
    made: list[tuple[Trainer, Manager]] = []

    def make(
        program: str, how: dict[str, Any] | None = None, **settings: Any
    ) -> tuple[Trainer, Manager]:
        manager = Manager(tmp_path / f"{len(made)}.sock", program, **(how or {}))
        made.append((Trainer(manager.path, **settings), manager))
        return made[-1]

    yield make
    for trainer, manager in made:
        trainer.process.stop()
        manager.close()


def warm(number: int, size: int = 2) -> protocol.Warm:
    """A small piece of work, or one of ``size`` bytes."""
    return protocol.Warm(number=number, job=bytes(size), store="w.sqlite")


def until(what: Callable[[], bool]) -> bool:
    """Whether it comes to pass."""
    deadline = time.monotonic() + PATIENCE
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return what()


def state(pid: int) -> str:
    """The letter of a process in proc(5): T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class TestWork:
    def test_one_process_for_all_work(self, start: Start) -> None:
        """Its id is the one that it has, and it stays between pieces of work."""
        trainer, manager = start(IMPORTS + ECHO)
        assert trainer.process.pid is None
        for number in (1, 2):
            trainer.process.submit(warm(number))
            event = trainer.event()
            assert event.answer.number == number
            assert int(event.answer.message) == trainer.process.pid == manager.children[0].pid
        assert len(manager.children) == 1

    def test_a_request_larger_than_the_connection_takes(self, start: Start) -> None:
        """Piece by piece; nobody waits meanwhile."""
        trainer, _ = start(IMPORTS + ECHO)
        trainer.process.submit(warm(1, 4 << 20))
        trainer.process.submit(warm(2))
        deadline = time.monotonic() + PATIENCE
        while trainer.nothing() and time.monotonic() < deadline:
            trainer.process.tick()
        assert [trainer.event().answer.number for _ in range(2)] == [1, 2]

    def test_idle_for_too_long_it_is_ended(self, start: Start) -> None:
        """Without a word; the next piece of work calls another."""
        trainer, manager = start(IMPORTS + ECHO, idle_seconds=60)
        trainer.process.submit(warm(1))
        trainer.event()
        trainer.clock.advance(61)
        trainer.process.tick()
        assert trainer.process.pid is None
        assert manager.children[0].wait(PATIENCE) in (0, -signal.SIGKILL)
        trainer.process.submit(warm(2))
        trainer.event()
        assert len(manager.children) == 2
        assert trainer.nothing()

    def test_work_in_hand_stands_still(self, start: Start) -> None:
        """As a child does, once it is known who it is."""
        trainer, manager = start(IMPORTS + SILENT)
        trainer.process.submit(warm(1))
        assert until(lambda: trainer.process.pid is not None)
        pid = manager.children[0].pid
        assert trainer.process.hold(wanted=True) == "paused"
        assert until(lambda: state(pid) == "T")
        assert trainer.process.hold(wanted=False) == "resumed"
        assert until(lambda: state(pid) != "T")

    def test_nobody_is_paused_who_has_not_come(self, start: Start) -> None:
        """It is tried again at the next look."""
        trainer, manager = start(IMPORTS + MUTE)
        trainer.process.submit(warm(1))
        assert until(lambda: bool(manager.children))
        assert trainer.process.hold(wanted=True) is None
        assert trainer.process.busy


class TestEnd:
    def test_killed_with_work_in_hand(self, start: Start) -> None:
        """As the kernel does for memory: the tasks are told, with the likely reason."""
        trainer, manager = start(IMPORTS + SILENT)
        for number in (4, 5):
            trainer.process.submit(warm(number))
        assert until(lambda: trainer.process.pid is not None)
        manager.children[0].kill()
        died = trainer.event()
        assert died == TrainerDied(None, (4, 5))
        assert "most likely for memory" in died.reason
        assert trainer.process.pid is None
        trainer.process.submit(warm(6))
        assert until(lambda: len(manager.children) == 2)

    def test_too_long_with_one_task_it_is_killed(self, start: Start) -> None:
        """Also one that stands still: the signal needs no help of it."""
        trainer, manager = start(IMPORTS + SILENT, timeout_seconds=100)
        trainer.process.submit(warm(1))
        assert until(lambda: trainer.process.pid is not None)
        os.kill(manager.children[0].pid, signal.SIGSTOP)
        trainer.clock.advance(101)
        trainer.process.tick()
        died = trainer.event()
        assert (died.numbers, died.reason) == ((1,), "ended by the agent")
        assert manager.children[0].wait(PATIENCE) == -signal.SIGKILL

    @pytest.mark.parametrize("program", [MUTE, SILENT])
    def test_stopped(self, start: Start, program: str) -> None:
        """Whether it has said hello or not; nobody is told."""
        trainer, manager = start(IMPORTS + program)
        trainer.process.submit(warm(1))
        assert until(lambda: bool(manager.children))
        trainer.process.stop()
        assert manager.children[0].wait(PATIENCE) is not None
        assert trainer.nothing()

    @pytest.mark.parametrize("program", [RUDE, NOISY])
    def test_noise_ends_it(self, start: Start, program: str) -> None:
        """Before the hello and after it."""
        trainer, manager = start(IMPORTS + program)
        trainer.process.submit(warm(1))
        assert trainer.event() == TrainerDied(None, (1,))
        assert manager.children[0].wait(PATIENCE) is not None

    def test_one_that_does_not_start(self, start: Start) -> None:
        """The manager accepted, and the program failed."""
        trainer, _ = start(IMPORTS + QUITTER)
        trainer.process.submit(warm(1))
        died = trainer.event()
        assert died == TrainerDied(None, (1,))
        assert "did not start" in died.reason

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process as somebody else")
    def test_a_process_of_another_user(self, start: Start) -> None:
        """It is told by the kernel who wrote: a stranger gets no work to do."""
        stranger = "import os\nos.write(1, b'FMTHELLO')\nos.read(0, 1 << 20)\nos.read(0, 1)"
        trainer, _ = start(stranger, {"user": 65534})
        trainer.process.submit(warm(1))
        assert trainer.event() == TrainerDied(None, (1,))
        assert trainer.process.pid is None


class TestCall:
    def test_nobody_listens(self, tmp_path: Path) -> None:
        """The error says what to start."""
        trainer = Trainer(str(tmp_path / "none.sock"))
        with pytest.raises(
            TrainerError, match=r"none\.sock.*No such file.*fedmill-trainer\.socket"
        ):
            trainer.process.submit(warm(1))
        assert not trainer.process.busy

    def test_a_manager_that_is_busy_is_not_waited_for(self, tmp_path: Path) -> None:
        """Its queue is full."""
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as other:
            listener.bind(str(tmp_path / "busy.sock"))
            listener.listen(0)
            other.connect(str(tmp_path / "busy.sock"))
            with pytest.raises(TrainerError, match="cannot be called"):
                Trainer(str(tmp_path / "busy.sock")).process.submit(warm(1))

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may listen as somebody else")
    def test_a_socket_that_somebody_else_put_there(self, tmp_path: Path) -> None:
        """Work and answers go to the service manager alone."""
        path = str(tmp_path / "planted.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            os.seteuid(65534)
            try:
                listener.listen()  # the kernel notes who does this
            finally:
                os.seteuid(0)
            with pytest.raises(TrainerError, match="user 65534 listens"):
                Trainer(path).process.submit(warm(1))


@pytest.mark.system
class TestReal:
    def test_even_a_paused_one_ends_with_its_caller(self, start: Start) -> None:
        """It is nobody's child: the connection's end wakes it, and then it leaves."""
        _, manager = start(REAL)
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, manager.path], stdout=subprocess.PIPE
        )
        with caller:
            pid = int(caller.stdout.readline())
            assert pid == manager.children[0].pid
            assert state(pid) == "T"
            caller.kill()
        assert manager.children[0].wait(PATIENCE) == 0


@pytest.fixture
def bounded() -> Iterator[Path]:
    """A control group of 100 MB, which is less than torch takes."""
    group = Path("/sys/fs/cgroup/memory") / f"fedmill-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("100M")
    except OSError as error:
        pytest.skip(f"no memory can be bounded here: {error}")
    yield group
    assert until(lambda: (group / "cgroup.procs").read_text() == "")
    group.rmdir()


@pytest.mark.system
class TestOutOfMemory:
    def test_the_kernel_ends_the_training_alone(self, start: Start, bounded: Path) -> None:
        """It needs more than its group may have: the work is told as lost, with the reason."""
        join = f"open({str(bounded / 'cgroup.procs')!r}, 'w').write(str(__import__('os').getpid()))"
        real = "from fedmill_agent.training.__main__ import main\nmain()"
        trainer, manager = start(f"{join}\n{real}")
        trainer.process.submit(warm(1))
        died = trainer.event()
        assert died == TrainerDied(None, (1,))
        assert "memory" in died.reason
        assert manager.children[0].wait(PATIENCE) == -signal.SIGKILL


class TestMemory:
    def test_a_kill_since(self, tmp_path: Path) -> None:
        """What was killed before is not ours."""
        events = tmp_path / "memory.events"
        events.write_text("low 0\nhigh 12\nmax 3\noom 2\noom_kill 2\n")
        watched = MemoryEvents(tmp_path)
        assert not watched.killed
        events.write_text("low 0\nhigh 12\nmax 3\noom 3\noom_kill 3\n")
        assert watched.killed

    @pytest.mark.parametrize("text", ["", "oom_kill many\n", "oom_kill", "oom_kill -1\n"])
    def test_a_kernel_that_does_not_count(self, tmp_path: Path, text: str) -> None:
        """Nothing is known then."""
        watched = MemoryEvents(tmp_path)
        (tmp_path / "memory.events").write_text(text)
        assert not watched.killed
        assert not MemoryEvents(None).killed

    def test_whose_group(self) -> None:
        """This process has one, if the machine has such groups; one that is gone has none."""
        found = own_group()
        assert found is None or str(found).startswith("/sys/fs/cgroup")
        assert group_of(2**22 + 1) is None
