# SPDX-License-Identifier: Apache-2.0
"""The daemon's side, with children that are real processes and small programs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from fedmill_agent.config import TrainingSection
from fedmill_agent.training import child, protocol
from fedmill_agent.training.child import TrainerAnswered, TrainerDied, TrainerProcess
from fedmill_agent.training.process import ChildProcess, Ended
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import TrainerError

PATIENCE = 30.0
ECHO = """
import os, sys
from fedmill_agent.training import protocol
while (request := protocol.receive_request(sys.stdin.buffer)) is not None:
    facts = f"{os.getpid()} {sys.argv[1:]} {os.environ['OMP_NUM_THREADS']}"
    answer = protocol.Failed(number=request.number, error="Echo", message=facts)
    protocol.send(sys.stdout.buffer, answer)
"""
SILENT = "import sys, time\nprint('here', file=sys.stderr)\nsys.stdin.read()"
NOISY = "import sys\nsys.stdin.buffer.read(4)\nprint('importing torch...', flush=True)\n"
NOISY += "sys.stdin.read()"
DEAF = "import time\ntime.sleep(60)"
ONE_ANSWER = """
import sys, time
from pathlib import Path
from fedmill_agent.training import protocol
request = protocol.receive_request(sys.stdin.buffer)
while not Path(sys.argv[0]).with_name("go").exists():
    time.sleep(0.01)
protocol.send(sys.stdout.buffer, protocol.Ready(number=request.number))
sys.stdin.read()
"""
QUITTER = "import sys\nsys.stdin.buffer.read(4)\nsys.exit(3)"


def warm(number: int) -> protocol.Warm:
    """A small piece of work."""
    return protocol.Warm(number=number, job=b"{}", store="w.sqlite")


class Trainer:
    """A handle on a child, its answers and its clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self._events: SimpleQueue[TrainerAnswered | TrainerDied] = SimpleQueue()
        self.process = TrainerProcess(TrainingSection(**settings), self._events.put, self.clock)

    def event(self) -> TrainerAnswered | TrainerDied:
        """What the child said or did next."""
        return self._events.get(timeout=PATIENCE)

    def nothing(self) -> bool:
        """Whether there is no event."""
        return self._events.empty()

    def echo(self, number: int) -> list[str]:
        """Have a task echoed: process id and arguments of the child."""
        self.process.submit(warm(number))
        event = self.event()
        assert isinstance(event, TrainerAnswered)
        assert event.answer.number == number
        return event.answer.message.split(" ", 1)


class Ending:
    """A process that answers its first task and ends; it is reaped when the test says so."""

    pid = 4711

    def __init__(self) -> None:
        self.reaping, self.go, self.written = threading.Event(), threading.Event(), b""

    def open(self) -> BytesIO:
        """Its only answer."""
        stream = BytesIO()
        protocol.send(stream, protocol.Ready(number=1))
        stream.seek(0)
        return stream

    def write(self, data: bytes) -> int:
        """As a pipe does."""
        if self.reaping.is_set():
            raise ValueError("I/O operation on closed file")
        self.written += data
        return len(data)

    def wait(self) -> Ended:
        """As long as the test wants."""
        self.reaping.set()
        assert self.go.wait(PATIENCE)
        return Ended(0, "")


class Stuck(Ending):
    """A process that says nothing, and that no signal ends."""

    def open(self) -> BytesIO:
        """Nothing comes until the test says so."""
        assert self.go.wait(PATIENCE)
        return BytesIO()

    def kill(self) -> None:
        """In vain."""


class Lingering(Ending):
    """A process that ends its answers at once, and itself only when it is killed."""

    def open(self) -> BytesIO:
        """Nothing comes."""
        return BytesIO()

    def kill(self) -> None:
        """That it cannot withstand."""
        self.go.set()


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """Makes handles whose child runs a program of the test's own."""
    made: list[Trainer] = []

    def make(program: str, **settings: Any) -> Trainer:
        path = tmp_path / "child.py"
        path.write_text(f"#!{interpreter}\nimport sys\nsys.argv[1:4] = []\n{program}\n")
        path.chmod(0o755)
        # it gets: -P -m fedmill_agent.training 10
        monkeypatch.setattr(sys, "executable", str(path))
        made.append(Trainer(**settings))
        return made[-1]

    interpreter = sys.executable
    yield make
    for one in made:
        one.process.stop()


def gone(pid: int) -> bool:
    """Whether a process has ended and been reaped, now or soon."""
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


class TestWarm:
    def test_one_child_for_all_work(self, trainer: Callable[..., Trainer]) -> None:
        """It is started with the first task and stays; it is told its priority, and one thread."""
        made = trainer(ECHO, nice=7)
        assert made.process.pid is None
        assert not made.process.busy
        first, facts = made.echo(1)
        second, _ = made.echo(2)
        assert first == second == str(made.process.pid)
        assert facts == "['7'] 1"
        assert not made.process.busy

    def test_idle_for_too_long_it_is_ended(self, trainer: Callable[..., Trainer]) -> None:
        """Without a word, and the next task starts another."""
        made = trainer(ECHO, idle_seconds=60)
        made.process.tick()  # nothing to end
        first, _ = made.echo(1)
        made.clock.advance(59)
        made.process.tick()
        assert made.process.pid == int(first)
        made.clock.advance(2)
        made.process.tick()
        assert made.process.pid is None
        assert gone(int(first))
        second, _ = made.echo(2)
        assert second != first
        assert made.nothing()

    def test_work_keeps_it_warm(self, trainer: Callable[..., Trainer]) -> None:
        """Idle time counts from the last answer."""
        made = trainer(ECHO, idle_seconds=60)
        for number in range(1, 4):
            made.clock.advance(50)
            made.process.tick()
            made.echo(number)
        assert made.process.pid is not None


class TestQueue:
    def test_nobody_waits_for_a_child_that_does_not_read(
        self, trainer: Callable[..., Trainer]
    ) -> None:
        """Neither many requests nor one that is larger than the pipe hold the daemon up."""
        made = trainer(DEAF)
        large = protocol.Warm(number=1, job=bytes(1 << 20), store="w.sqlite")
        made.process.submit(large)
        for number in range(2, 1000):
            made.process.submit(warm(number))
        made.process.tick()
        assert made.process.busy
        os.kill(made.process.pid, signal.SIGKILL)
        assert made.event() == TrainerDied(-signal.SIGKILL, tuple(range(1, 1000)))

    def test_a_request_larger_than_the_pipe_arrives(self, trainer: Callable[..., Trainer]) -> None:
        """Piece by piece, and what was queued behind it follows in order."""
        made = trainer(ECHO)
        made.process.submit(protocol.Warm(number=1, job=bytes(1 << 20), store="w.sqlite"))
        made.process.submit(warm(2))
        made.process.submit(warm(3))
        deadline = time.monotonic() + PATIENCE
        while made.nothing() and time.monotonic() < deadline:
            made.process.tick()
        events = [made.event() for _ in range(3)]
        assert [event.answer.number for event in events] == [1, 2, 3]
        assert not made.process.busy

    def test_time_counts_from_the_begin_of_a_task(self, trainer: Callable[..., Trainer]) -> None:
        """One that was queued behind a long one has its own time."""
        made = trainer(ONE_ANSWER, timeout_seconds=100)
        made.process.submit(warm(1))
        made.process.submit(warm(2))
        made.clock.advance(90)
        Path(sys.executable).with_name("go").touch()
        assert isinstance(made.event(), TrainerAnswered)
        made.clock.advance(90)
        made.process.tick()
        assert made.process.busy
        assert made.process.pid is not None
        made.clock.advance(11)
        made.process.tick()
        assert made.event() == TrainerDied(-signal.SIGKILL, (2,))


class TestDeath:
    def test_one_that_cannot_be_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As while it waits for a broken disk: the daemon's loop goes on without it."""
        monkeypatch.setattr(child, "LEAVE_SECONDS", 0.01)
        made, stuck = Trainer(), Stuck()
        monkeypatch.setattr(made.process, "_process", lambda: stuck)
        made.process.submit(warm(1))
        made.process.stop()
        assert made.process.pid is None
        stuck.go.set()

    def test_one_that_hangs_at_its_exit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is killed after a while, and whoever waits for its work hears of it."""
        made, lingering = Trainer(), Lingering()
        monkeypatch.setattr(made.process, "_process", lambda: lingering)
        made.process.submit(warm(1))
        assert lingering.reaping.wait(PATIENCE)
        made.clock.advance(child.END_SECONDS)
        made.process.tick()
        assert not lingering.go.is_set()
        made.clock.advance(1.0)
        made.process.tick()
        assert made.event() == TrainerDied(0, (1,))

    def test_stopped_while_one_hangs_at_its_exit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is killed as well: nobody would be there to do it later."""
        made, lingering = Trainer(), Lingering()
        monkeypatch.setattr(made.process, "_process", lambda: lingering)
        made.process.submit(warm(1))
        assert lingering.reaping.wait(PATIENCE)
        made.process.stop()
        assert lingering.go.is_set()

    def test_work_that_comes_while_it_is_reaped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It goes to the next one: the pipe to this one is closed."""
        made, first, second = Trainer(), Ending(), Ending()
        processes = iter([first, second])
        monkeypatch.setattr(made.process, "_process", lambda: next(processes))
        made.process.submit(warm(1))
        assert made.event() == TrainerAnswered(protocol.Ready(number=1))
        assert first.reaping.wait(PATIENCE)
        made.process.submit(warm(2))
        made.process.tick()
        assert second.written
        first.go.set()
        second.go.set()

    def test_killed_with_work_in_hand(self, trainer: Callable[..., Trainer]) -> None:
        """All tasks are named once, and the next task starts another child."""
        made = trainer(SILENT)
        for number in (4, 5):
            made.process.submit(warm(number))
        assert made.process.busy
        os.kill(made.process.pid, signal.SIGKILL)
        died = made.event()
        assert died == TrainerDied(-signal.SIGKILL, (4, 5))
        assert "memory" in died.reason
        assert not made.process.busy
        assert made.process.pid is None
        made.process.submit(warm(6))
        assert made.process.busy

    def test_killed_while_idle(self, trainer: Callable[..., Trainer]) -> None:
        """It is told, with no task."""
        made = trainer(ECHO)
        made.echo(1)
        os.kill(made.process.pid, signal.SIGKILL)
        assert made.event() == TrainerDied(-signal.SIGKILL, ())

    def test_tasks_of_a_dying_child_are_never_forgotten(
        self, trainer: Callable[..., Trainer]
    ) -> None:
        """Whenever a task is handed over, some report names it: to this child or to the next."""
        made = trainer(QUITTER)
        reported: list[int] = []
        for number in range(1, 13):
            made.process.submit(warm(number))
            if number % 3 == 0:
                while not {number}.issubset(reported):
                    event = made.event()
                    assert isinstance(event, TrainerDied)
                    reported += event.numbers
        assert sorted(reported) == list(range(1, 13))

    def test_too_long_with_one_task_it_is_killed(self, trainer: Callable[..., Trainer]) -> None:
        """The oldest task counts, and nobody looks for more memory."""
        made = trainer(SILENT, timeout_seconds=100)
        made.process.submit(warm(1))
        made.clock.advance(60)
        made.process.submit(warm(2))
        made.process.tick()
        made.clock.advance(41)
        made.process.tick()
        died = made.event()
        assert died == TrainerDied(-signal.SIGKILL, (1, 2))
        assert died.reason == "ended by the agent"

    def test_noise_in_the_pipe_ends_it(self, trainer: Callable[..., Trainer]) -> None:
        """What is no answer cannot be skipped: the child is killed and the task is told."""
        made = trainer(NOISY)
        made.process.submit(warm(1))
        assert made.event() == TrainerDied(-signal.SIGKILL, (1,))

    def test_it_cannot_be_started(
        self, trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error tells why."""
        made = trainer(ECHO)
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(TrainerError, match=r"cannot be started.*No such file"):
            made.process.submit(warm(1))
        assert not made.process.busy

    def test_nothing_is_imported_from_where_the_daemon_runs(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A file there that is called as one of ours is no program."""
        (tmp_path / "fedmill_agent.py").write_text("raise SystemExit(9)")
        monkeypatch.chdir(tmp_path)
        process = ChildProcess(0)
        process._child.stdin.close()  # it has nothing to do, and leaves
        assert process.wait().code == 0

    def test_stopped_with_work_in_hand(self, trainer: Callable[..., Trainer]) -> None:
        """Nobody is told: whoever stops it knows."""
        made = trainer(SILENT)
        made.process.submit(warm(1))
        pid = made.process.pid
        made.process.stop()
        made.process.stop()
        assert gone(pid)
        assert not made.process.busy
        assert made.nothing()


PARENT = """
import sys, time
from fedmill_agent.config import TrainingSection
from fedmill_agent.training import protocol
from fedmill_agent.training.child import TrainerProcess
from fedmill_shared.clock import SystemClock
process = TrainerProcess(TrainingSection(), print, SystemClock())
process.submit(protocol.Warm(number=1, job=b"{}", store="none"))
print(process.pid, flush=True)
time.sleep(60)
"""
PAUSER = """
import os, signal, time
from queue import SimpleQueue
from fedmill_agent.config import TrainingSection
from fedmill_agent.training import protocol
from fedmill_agent.training.child import TrainerProcess
from fedmill_shared.clock import SystemClock
answers = SimpleQueue()
process = TrainerProcess(TrainingSection(), answers.put, SystemClock())
process.submit(protocol.Warm(number=1, job=b"{}", store="none"))
answers.get()  # it is up, and has told that there is no such store
os.kill(process.pid, signal.SIGSTOP)
while "T (stopped)" not in open(f"/proc/{process.pid}/status").read():
    time.sleep(0.01)
print(process.pid, flush=True)
time.sleep(60)
"""


class TestPause:
    def test_work_in_hand_stands_still(self, trainer: Callable[..., Trainer]) -> None:
        """The process is stopped and goes on; neither twice."""
        made = trainer(SILENT)
        made.process.submit(warm(1))
        pid = made.process.pid
        assert pid is not None
        assert made.process.hold(wanted=False) is None
        assert made.process.hold(wanted=True) == "paused"
        assert made.process.hold(wanted=True) is None
        assert until(lambda: state(pid) == "T")
        assert made.process.hold(wanted=False) == "resumed"
        assert made.process.hold(wanted=False) is None
        assert until(lambda: state(pid) != "T")

    def test_the_time_does_not_count(self, trainer: Callable[..., Trainer]) -> None:
        """What has a minute has a minute of work."""
        made = trainer(SILENT, timeout_seconds=60)
        made.process.submit(warm(1))
        made.clock.advance(50)
        made.process.hold(wanted=True)
        made.clock.advance(10_000)
        made.process.tick()
        made.process.hold(wanted=False)
        made.clock.advance(9)
        made.process.tick()
        assert made.nothing()
        made.clock.advance(2)
        made.process.tick()
        assert isinstance(made.event(), TrainerDied)

    def test_what_others_wait_for_goes_on(self, trainer: Callable[..., Trainer]) -> None:
        """Statistics and evaluations are short."""
        made = trainer(SILENT)
        made.process.submit(protocol.CollectMoments(number=1, job=b"{}", store="w.sqlite"))
        assert made.process.hold(wanted=True) is None

    def test_what_others_wait_for_is_not_held_up(self, trainer: Callable[..., Trainer]) -> None:
        """A paused training goes on while something waits behind it."""
        made = trainer(SILENT)
        made.process.submit(warm(1))
        assert made.process.hold(wanted=True) == "paused"
        made.process.submit(protocol.CollectMoments(number=2, job=b"{}", store="w.sqlite"))
        assert made.process.hold(wanted=True) == "resumed"
        assert made.process.hold(wanted=True) is None
        pid = made.process.pid
        assert pid is not None
        assert until(lambda: state(pid) != "T")

    def test_an_answer_that_was_on_its_way(self, trainer: Callable[..., Trainer]) -> None:
        """Whatever the moment of the pause, the next task is worked on."""
        made = trainer(ECHO)
        for number in range(0, 200, 2):
            made.process.submit(warm(number))
            made.process.hold(wanted=True)
            made.process.hold(wanted=False)
            made.event()
            made.process.submit(warm(number + 1))
            made.process.hold(wanted=True)
            while made.nothing():
                made.process.hold(wanted=False)
            made.event()

    def test_nothing_in_hand(self, trainer: Callable[..., Trainer]) -> None:
        """There is nothing to pause before the first task, nor after the last."""
        made = trainer(ECHO)
        assert made.process.hold(wanted=True) is None
        made.echo(1)
        assert made.process.hold(wanted=True) is None

    def test_stopped_while_paused(self, trainer: Callable[..., Trainer]) -> None:
        """Nothing is left behind."""
        made = trainer(SILENT)
        made.process.submit(warm(1))
        pid = made.process.pid
        assert pid is not None
        made.process.hold(wanted=True)
        made.process.stop()
        assert gone(pid)


@pytest.mark.system
class TestParent:
    def test_even_a_paused_child_ends_with_its_parent(self) -> None:
        """It cannot notice by itself: the kernel ends it."""
        parent = subprocess.Popen([sys.executable, "-c", PAUSER], stdout=subprocess.PIPE)
        with parent:
            child = int(parent.stdout.readline())
            assert state(child) == "T"
            parent.kill()
        assert until(lambda: not running(child))

    def test_the_real_child_ends_with_its_parent(self) -> None:
        """Even when that is killed while the child still imports torch."""
        parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
        with parent:
            child = int(parent.stdout.readline())
            assert Path(f"/proc/{child}").exists()
            parent.kill()
        deadline = time.monotonic() + PATIENCE
        while running(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not running(child)


def until(what: Callable[[], bool]) -> bool:
    """Whether it comes to pass."""
    deadline = time.monotonic() + PATIENCE
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return what()


def state(pid: int) -> str:
    """The letter of a process in proc(5): T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def running(pid: int) -> bool:
    """Whether a process runs; one that nobody reaps has ended too."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
