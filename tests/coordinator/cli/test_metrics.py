# SPDX-License-Identifier: Apache-2.0
"""``fedmill metrics``: how the fleet fares, in the text format of Prometheus."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from click.testing import Result
from tests.coordinator.exposition.reading import read

from fedmill_coordinator.counts import Counts
from fedmill_coordinator.exposition.collector import METRICS
from fedmill_coordinator.store.records import RoundRecord, TrafficRecord
from fedmill_coordinator.store.sql import SqlStore

Run = Callable[..., Result]


class TestCommand:
    """``fedmill metrics``."""

    def test_prints_what_the_database_knows(self, run: Run, plant: SimpleNamespace) -> None:
        """Bytes and rounds, and how each agent fares."""
        result = run("metrics", plant.config)
        assert result.exit_code == 0
        found = read(result.output)
        assert found["fedmill_uplink_bytes_total"] == {
            ("tiny", "press-1"): 1_900_000,
            ("tiny", "press-3"): 100_000,
        }
        assert found["fedmill_rounds_total"] == {("tiny",): 2}
        assert found["fedmill_agents"] == {("online",): 1, ("offline",): 1}
        assert found["fedmill_agent_predictions_total"]["press-1", "tiny"] == 1234

    def test_prints_what_was_counted(self, run: Run, plant: SimpleNamespace) -> None:
        """As the coordinator last saved it: it need not run."""
        counts = Counts()
        counts.add("updates", "tiny", "refused", "forged", by=3)
        counts.save(plant.database.parent)
        found = read(run("metrics", plant.config).output)
        assert found["fedmill_updates_total"]["tiny", "refused", "forged"] == 3

    def test_leaves_out_what_only_a_daemon_knows(self, run: Run, plant: SimpleNamespace) -> None:
        """Nobody can say here whether the broker is there."""
        found = read(run("metrics", plant.config).output)
        assert "fedmill_broker_connected" not in found
        assert "fedmill_coordinator_start_timestamp_seconds" not in found

    def test_a_job_that_has_not_begun(self, run: Run, two_jobs: SimpleNamespace) -> None:
        """It has a state, and no rounds yet."""
        found = read(run("metrics", two_jobs.config).output)
        assert len({job for job, _ in found["fedmill_job_state"]}) == 2
        assert found["fedmill_rounds_total"] == {("tiny",): 2}

    def test_into_a_file(self, run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
        """Whole, in place of what was there; nothing is printed, and nothing else is left."""
        folder = tmp_path / "collector"
        folder.mkdir()
        (folder / "fedmill.prom").write_text("old")
        result = run("metrics", plant.config, "--out", folder / "fedmill.prom")
        assert (result.exit_code, result.output) == (0, "")
        assert [path.name for path in folder.iterdir()] == ["fedmill.prom"]
        assert "fedmill_rounds_total" in read((folder / "fedmill.prom").read_text())

    def test_no_such_folder(self, run: Run, plant: SimpleNamespace, tmp_path: Path) -> None:
        """One line, with the exit code of what cannot be stored."""
        result = run("metrics", plant.config, "--out", tmp_path / "none" / "fedmill.prom")
        assert result.exit_code == 21
        assert "fedmill.prom: cannot be written" in result.stderr

    def test_counters_never_fall(self, run: Run, plant: SimpleNamespace) -> None:
        """Not where old rounds are added up, and not where a round closes."""
        with SqlStore.in_file(plant.database) as store:
            opened = store.current_round("tiny")
            assert isinstance(opened, RoundRecord)
            store.abandon_round(
                "tiny",
                3,
                closed_ns=opened.opened_ns + 1,
                report="{}",
                traffic=store.traffic("tiny", 3),
            )
            record = TrafficRecord(
                job="tiny", round=2000, agent="press-1", uplink_bytes=1, downlink_bytes=1
            )
            store.save_traffic("tiny", 2000, [record])
        found = read(run("metrics", plant.config).output)
        assert found["fedmill_uplink_bytes_total"]["tiny", "press-1"] == 1_900_001
        assert found["fedmill_uplink_bytes_total"]["tiny", "press-3"] == 100_000
        assert found["fedmill_rounds_total"]["tiny",] == 3

    def test_every_metric_is_declared(self, run: Run, plant: SimpleNamespace) -> None:
        """Under a name that tells its unit, and described before its samples."""
        declared = {each.name: each for each in METRICS}
        lines = run("metrics", plant.config).output.splitlines()
        told = {line.split()[2] for line in lines if line.startswith("# HELP")}
        assert told <= declared.keys()
        for line in lines:
            if line.startswith("# TYPE"):
                _, _, name, kind = line.split()
                assert kind == declared[name].kind
