# SPDX-License-Identifier: Apache-2.0
"""Orders to the coordinator: pause, resume and abort a job, close a round."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result
from msgspec import json

from fedmill_coordinator.cli import main, orders
from fedmill_coordinator.store.records import OrderRecord
from fedmill_coordinator.store.sql import SqlStore
from fedmill_shared.errors import StoreError

Run = Callable[..., Result]

ORDERS = ("jobs pause", "jobs resume", "jobs abort --yes", "rounds close")


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anna is at the keyboard."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("LOGNAME", "anna")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No coordinator runs, and nobody waits for one."""
    monkeypatch.setattr(orders, "WAIT_SECONDS", 0.0)


@pytest.fixture
def answered(plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A coordinator that takes the open orders in the second pause of whoever waits."""

    def answer(outcome: str) -> None:
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                with SqlStore.in_file(plant.database) as store:
                    for taken in store.open_orders():
                        store.finish_order(taken.id, done_ns=taken.given_ns + 5, outcome=outcome)

        monkeypatch.setattr("fedmill_coordinator.cli.orders.time.sleep", pause)

    return answer


def stored(plant: SimpleNamespace, number: int = 1) -> OrderRecord:
    """An order as the store has it."""
    with SqlStore.in_file(plant.database) as store:
        found = store.order(number)
    assert found is not None
    return found


def order(run: Run, plant: SimpleNamespace, words: str, *options: str, job: str = "tiny") -> Result:
    """Give an order: the words of the command, with configuration and job in their place."""
    group, verb, *more = words.split()
    return run(group, verb, plant.config, job, *more, *options)


class TestOutcome:
    @pytest.mark.parametrize("words", ORDERS)
    def test_is_told(
        self,
        run: Run,
        plant: SimpleNamespace,
        answered: Callable[[str], None],
        words: str,
    ) -> None:
        """Each command gives its order in the name of who is at the keyboard, and waits."""
        answered("it is done")
        before = time.time_ns()
        result = order(run, plant, words)
        assert (result.exit_code, result.stdout) == (0, "job tiny: it is done\n")
        given = stored(plant)
        assert (given.job, given.verb, given.by) == ("tiny", words.split()[1], "anna")
        assert before <= given.given_ns <= time.time_ns()

    @pytest.mark.parametrize("words", ORDERS)
    def test_as_json(
        self,
        run: Run,
        plant: SimpleNamespace,
        answered: Callable[[str], None],
        words: str,
    ) -> None:
        """The whole order in one line."""
        answered("it is done")
        result = order(run, plant, words, "--json")
        assert result.exit_code == 0
        assert json.decode(result.stdout, type=OrderRecord) == stored(plant)
        assert result.stdout.count("\n") == 1

    def test_a_refusal_is_an_error(
        self, run: Run, plant: SimpleNamespace, answered: Callable[[str], None]
    ) -> None:
        """With the reason of the coordinator on standard error; JSON stays JSON."""
        answered("refused: no round is open")
        result = run("rounds", "close", plant.config, "tiny")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "refuses to close it: no round is open (see" in result.stderr
        answered("refused: no round is open")
        result = run("rounds", "close", plant.config, "tiny", "--json")
        assert result.exit_code == 1
        refused = json.decode(result.stdout, type=OrderRecord)
        assert refused.outcome == "refused: no round is open"


class TestNoCoordinator:
    def test_the_order_waits(self, run: Run, plant: SimpleNamespace, alone: None) -> None:
        """It says so, and the order is there for the coordinator when it comes."""
        result = run("jobs", "pause", plant.config, "tiny")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "job tiny: order 1 to pause it waits" in result.stderr
        assert "when the coordinator runs" in result.stderr
        assert result.stderr.count("\n") == 1
        assert stored(plant).done_ns is None

    def test_as_json(self, run: Run, plant: SimpleNamespace, alone: None) -> None:
        """The open order, and the error."""
        result = run("jobs", "pause", plant.config, "tiny", "--json")
        assert result.exit_code == 1
        assert json.decode(result.stdout, type=OrderRecord) == stored(plant)

    def test_waits_ten_seconds(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By a clock that only the pauses move; after the first second it says what it does."""
        now = [100.0]
        told: list[float] = []
        echo = click.echo

        def notes(text: str, **how: bool) -> None:
            if text.startswith("waiting"):
                told.append(now[0])
            echo(text, **how)

        monkeypatch.setattr("fedmill_coordinator.cli.orders.click.echo", notes)

        def pause(seconds: float) -> None:
            now[0] += seconds

        monkeypatch.setattr(
            orders,
            "time",
            SimpleNamespace(time_ns=time.time_ns, monotonic=lambda: now[0], sleep=pause),
        )
        result = run("jobs", "pause", plant.config, "tiny")
        assert result.exit_code == 1
        assert told == [pytest.approx(101.0, abs=0.2)]
        assert result.stderr.startswith(
            "waiting for the coordinator ...\nfedmill: job tiny: order 1 "
        )
        assert now[0] == pytest.approx(110.0, abs=0.2)

    @pytest.mark.parametrize("words", ORDERS)
    def test_an_unknown_job(
        self,
        run: Run,
        two_jobs: SimpleNamespace,
        words: str,
    ) -> None:
        """Nothing is ordered; the error names the jobs that there are."""
        result = order(run, two_jobs, words, job="third")
        assert result.exit_code == 2
        assert "NAME is 'third'" in result.stderr
        assert "second, tiny" in result.stderr
        with SqlStore.in_file(two_jobs.database) as store:
            assert store.open_orders() == []

    def test_that_never_ran(self, run: Run, empty: Path) -> None:
        """There is no database to give an order in, and none is made."""
        assert run("jobs", "pause", empty, "tiny").exit_code == 21
        assert not (empty.parent / "state").exists()

    def test_an_order_that_vanishes(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever replaces the database under it is told."""
        monkeypatch.setattr(SqlStore, "order", lambda *_: None)
        result = run("jobs", "pause", plant.config, "tiny")
        assert (result.exit_code, "order 1 is gone" in result.stderr) == (1, True)


class TestInterrupted:
    @pytest.fixture
    def interrupt(
        self, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[str], None]:
        """Ctrl-C in the first pause of whoever waits, after the coordinator took the order or not.

        The argument is what came of the order, empty if nobody took it.
        """

        def prepare(outcome: str) -> None:
            def pause(_: float) -> None:
                with SqlStore.in_file(plant.database) as store:
                    for taken in store.open_orders() if outcome else ():
                        store.finish_order(taken.id, done_ns=taken.given_ns + 5, outcome=outcome)
                raise KeyboardInterrupt

            monkeypatch.setattr("fedmill_coordinator.cli.orders.time.sleep", pause)

        return prepare

    @pytest.mark.parametrize("words", ORDERS)
    def test_withdraws_the_order(
        self, run: Run, plant: SimpleNamespace, interrupt: Callable[[str], None], words: str
    ) -> None:
        """No coordinator that comes later carries it out."""
        interrupt("")
        result = order(run, plant, words)
        said = f"fedmill: job tiny: order 1 to {words.split()[1]} it: withdrawn by the operator\n"
        assert (result.exit_code, result.stdout, result.stderr) == (130, "", said)
        given = stored(plant)
        assert given.outcome == "withdrawn by the operator"
        assert (given.done_ns or 0) >= given.given_ns
        with SqlStore.in_file(plant.database) as store:
            assert store.open_orders() == []

    def test_a_real_one(self, plant: SimpleNamespace) -> None:
        """As the terminal sends it, to a process that waits."""
        words = ["jobs", "pause", str(plant.config), "tiny"]
        # Tests may run in the background of a shell, whose children ignore Ctrl-C.
        script = (
            "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "runpy.run_module('fedmill_coordinator', run_name='__main__', alter_sys=True)"
        )
        with (
            subprocess.Popen(
                [sys.executable, "-c", script, *words], stderr=subprocess.PIPE
            ) as process,
            SqlStore.in_file(plant.database) as store,
        ):
            assert process.stderr is not None
            assert process.stderr.readline() == b"waiting for the coordinator ...\n"
            process.send_signal(signal.SIGINT)
            assert process.stderr.read().endswith(
                b"job tiny: order 1 to pause it: withdrawn by the operator\n"
            )
            assert process.wait() == 130
            assert store.open_orders() == []

    def test_comes_too_late(
        self, run: Run, plant: SimpleNamespace, interrupt: Callable[[str], None]
    ) -> None:
        """What came of the order stays, and is told; also as JSON."""
        interrupt("the job is paused")
        result = run("jobs", "pause", plant.config, "tiny")
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr == "fedmill: job tiny: order 1 to pause it: the job is paused\n"
        result = run("jobs", "pause", plant.config, "tiny", "--json")
        assert result.exit_code == 130
        assert json.decode(result.stdout, type=OrderRecord) == stored(plant, 2)

    def test_that_cannot_be_withdrawn(
        self,
        run: Run,
        plant: SimpleNamespace,
        interrupt: Callable[[str], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The store's error is told: the order is still there."""

        def fails(*_: object, **__: object) -> None:
            raise StoreError("database is locked")

        interrupt("")
        monkeypatch.setattr(SqlStore, "finish_order", fails)
        result = run("jobs", "pause", plant.config, "tiny")
        assert (result.exit_code, result.stderr) == (21, "fedmill: database is locked\n")
        assert stored(plant).done_ns is None


class TestAbort:
    def test_checks_the_name_before_it_asks(self, run: Run, plant: SimpleNamespace) -> None:
        """Nobody is asked about a job that does not exist."""
        result = run("jobs", "abort", plant.config, "tinny")
        assert result.exit_code == 2
        assert result.stderr == "fedmill: NAME is 'tinny' (jobs: tiny)\n"

    def test_ctrl_c_at_the_question(
        self, run: Run, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says that nothing was done, and nothing was."""

        def interrupted(*_: object, **__: object) -> bool:
            raise click.Abort

        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        monkeypatch.setattr("fedmill_coordinator.cli.jobs.click.confirm", interrupted)
        result = run("jobs", "abort", plant.config, "tiny")
        assert (result.exit_code, result.stdout) == (130, "")
        assert result.stderr == "\nfedmill: job tiny goes on: nothing was done\n"
        with SqlStore.in_file(plant.database) as store:
            assert store.open_orders() == []

    def test_needs_a_word_without_a_terminal(self, run: Run, plant: SimpleNamespace) -> None:
        """A script has to say that it means it."""
        result = run("jobs", "abort", plant.config, "tiny")
        assert result.exit_code == 2
        assert "give --yes" in result.stderr
        with SqlStore.in_file(plant.database) as store:
            assert store.open_orders() == []

    @pytest.mark.usefixtures("alone")
    @pytest.mark.parametrize(("answer", "given"), [("n", 0), ("", 0), ("y", 1)])
    def test_asks_on_a_terminal(
        self, plant: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, answer: str, given: int
    ) -> None:
        """Only a yes gives the order."""
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        words = ["jobs", "abort", str(plant.config), "tiny"]
        result = CliRunner().invoke(main, words, input=f"{answer}\n")
        assert "End job tiny for good?" in result.stderr
        assert result.exit_code == 1
        assert ("job tiny goes on" in result.stderr) == (not given)
        with SqlStore.in_file(plant.database) as store:
            assert [found.verb for found in store.open_orders()] == ["abort"] * given


class TestOperator:
    def test_is_who_logged_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Behind sudo the one who called it, not the service user."""
        assert orders.operator() == "anna"
        monkeypatch.setenv("SUDO_USER", "ben")
        assert orders.operator() == "ben"

    @pytest.mark.parametrize("error", [KeyError, OSError])
    def test_without_a_name(self, monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
        """A container's user that has no name has a number."""

        def nobody() -> str:
            raise error

        monkeypatch.setattr("getpass.getuser", nobody)
        assert orders.operator() == f"user {os.getuid()}"


class TestHelp:
    def test_names_every_order(self, run: Run) -> None:
        """Beside the listing."""
        for group, names in (
            ("jobs", ("list", "pause", "resume", "abort")),
            ("rounds", ("close",)),
        ):
            output = run(group, "--help").output
            for name in names:
                assert f"\n  {name} " in output
