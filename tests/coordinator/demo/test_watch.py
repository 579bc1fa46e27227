# SPDX-License-Identifier: Apache-2.0
"""Following a job: what is seen, and when it is told."""

import pytest
from structlog.testing import capture_logs

from fedmill_coordinator.demo.watch import LogView, Snapshot, live_view, look
from fedmill_coordinator.progress import Metric
from fedmill_coordinator.store.memory import MemoryStore
from fedmill_coordinator.store.records import AgentRecord, JobRecord
from fedmill_shared.log import get_logger

ACCURACY = Metric("accuracy", 0.81234567, higher_is_better=True, windows=10)


def snapshot(closed: int, metric: Metric | None = None, state: str = "running") -> Snapshot:
    """So many rounds of five."""
    return Snapshot(state, closed, 5, 4, metric)


class TestLook:
    """What the store tells."""

    def test_before_the_coordinator_has_the_job(self) -> None:
        """Nothing yet is no error."""
        assert look(MemoryStore(), "rig", 5) is None

    def test_a_new_job(self) -> None:
        """Its state, and the agents that are online."""
        store = MemoryStore()
        times = {"created_ns": 1, "updated_ns": 1}
        store.add_job(JobRecord(name="rig", text="", sha256="0" * 64, state="waiting", **times))
        for agent, online in (("a", True), ("b", False)):
            store.save_agent(AgentRecord(agent=agent, online=online, last_seen_ns=1))
        assert look(store, "rig", 5) == Snapshot("waiting", 0, 5, 1, None)

    def test_windows_that_agents_have(self) -> None:
        """Those to learn from, of this job, of agents that are there."""
        store = MemoryStore()
        times = {"created_ns": 1, "updated_ns": 1}
        store.add_job(JobRecord(name="rig", text="", sha256="0" * 64, state="waiting", **times))
        jobs = '{"rig": {"phase": "waiting", "windows": {"train": 30, "test": 9}}}'
        for agent, online in (("a", True), ("b", True), ("c", False)):
            store.save_agent(AgentRecord(agent=agent, online=online, last_seen_ns=1, jobs=jobs))
        found = look(store, "rig", 5)
        assert found is not None
        assert found.windows == 60


class TestLogView:
    """Without a terminal."""

    def test_one_event_for_each_step_forward(self) -> None:
        """Looking again without news says nothing; the metric goes under its own name."""
        with capture_logs() as logs:
            view = LogView(get_logger())
            for each in (snapshot(0), snapshot(0), snapshot(1, ACCURACY), snapshot(1, ACCURACY)):
                view.update(each)
            view.update(snapshot(1, ACCURACY, state="finished"))
            view.baseline("pooled", 5)
        assert [(log["event"], log.get("round")) for log in logs] == [
            ("demo.progress", 0),
            ("demo.progress", 1),
            ("demo.progress", 1),
            ("demo.baseline", None),
        ]
        assert logs[1]["accuracy"] == 0.8123
        assert logs[2]["state"] == "finished"

    def test_windows_are_told_while_the_job_waits_for_them(self) -> None:
        """Machines in real time take half a minute; once it runs, rounds are told."""
        with capture_logs() as logs:
            view = LogView(get_logger())
            for state, windows in (("waiting", 0), ("waiting", 7), ("waiting", 7), ("running", 8)):
                view.update(Snapshot(state, 0, 5, 4, None, windows))
            view.update(Snapshot("running", 0, 5, 4, None, 9))
        assert [(log["state"], log.get("windows")) for log in logs] == [
            ("waiting", None),
            ("waiting", 7),
            ("running", None),
        ]


class TestLiveView:
    """On a terminal."""

    def test_shows_rounds_and_baselines(self, capsys: pytest.CaptureFixture[str]) -> None:
        """On standard error, so that the report on standard output stays clean."""
        with live_view() as view:
            view.update(snapshot(3, ACCURACY))
            view.baseline("pooled", 5)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "3/5" in captured.err
        assert "accuracy 0.8123" in captured.err
        assert "1/5" in captured.err

    def test_shows_what_it_waits_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        """How many windows there are already."""
        with live_view() as view:
            view.update(Snapshot("waiting", 0, 5, 4, None, 812))
        assert "4 agents, waiting: 812 windows so far" in capsys.readouterr().err
