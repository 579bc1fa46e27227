# SPDX-License-Identifier: Apache-2.0
"""From ``[store]`` to the stores: the configuration is checked, and the daemon watches the disk."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.agent.kit import Coordinator, Journal

from fedmill_agent.config import AgentConfig, AgentSection, StoreSection, load
from fedmill_agent.daemon import Daemon
from fedmill_agent.line import subscriptions
from fedmill_agent.status import read_status
from fedmill_agent.store.bounds import Rules, rules_of
from fedmill_agent.store.space import ample
from fedmill_shared.clock import ManualClock
from fedmill_shared.errors import ConfigError
from fedmill_shared.link.memory import MemoryLink


def config(folder: Path, *lines: str) -> AgentConfig:
    """A configuration with these lines below ``[store]``."""
    path = folder / "agent.toml"
    path.write_text("\n".join(['[agent]\nid = "a"\n[store]', *lines]) + "\n")
    return load(path)


class TestConfiguration:
    def test_what_is_written_is_what_holds(self, tmp_path: Path) -> None:
        """Every field, in the rules of a window store."""
        store = config(
            tmp_path,
            'discard = "thin"',
            "predictions_max_bytes = 1000",
            "predictions_max_age_days = 2",
            "samples_max_bytes = 0",
            "samples_max_age_days = 0.5",
            "min_free_bytes = 0",
        ).store
        assert rules_of(store, ample) == Rules(
            discard="thin",
            predictions_max_bytes=1000,
            predictions_max_age_seconds=172_800.0,
            level=ample,
        )
        assert (store.samples_max_bytes, store.samples_max_age_days) == (0, 0.5)
        assert store.min_free_bytes == 0

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("samples_max_bytes = 5000", "store.samples_max_bytes is 5000: too little.*1000000"),
            ("samples_max_bytes = -1", "samples_max_bytes"),
            (
                "max_bytes = 1000000\npredictions_max_bytes = 500001",
                "store.predictions_max_bytes is 500001: windows need.*at most 500000",
            ),
            ('discard = "random"', "discard.*newest.*oldest.*thin"),
            ("predictions_max_age_days = 0", "predictions_max_age_days"),
            ("min_free_bytes = -1", "min_free_bytes"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, tmp_path: Path, line: str, words: str) -> None:
        """With field, value and what is allowed."""
        with pytest.raises(ConfigError, match=rf"(?s)agent\.toml.*{words}"):
            config(tmp_path, line)


def step(daemon: Daemon) -> None:
    """One turn of the loop, and what it has written."""
    daemon.step(0.0)
    while daemon._heartbeat._writing:
        daemon.step(0.01)


class TestDaemon:
    def test_it_watches_its_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is free is in the status; that it is too little is logged, and stores know."""
        free = [10**9]

        def disk(_folder: Path) -> SimpleNamespace:
            return SimpleNamespace(f_bavail=free[0], f_frsize=1, f_blocks=10**11)

        monkeypatch.setattr(os, "statvfs", disk)
        clock, journal = ManualClock(), Journal()
        coordinator = Coordinator.of()

        def connect(sink: Any, will: Any) -> MemoryLink:
            return MemoryLink(coordinator.broker, subscriptions("a"), sink, will)

        store = StoreSection(min_free_bytes=500_000_000)
        section = AgentSection(id="a", state=str(tmp_path / "state"))
        daemon = Daemon(AgentConfig(agent=section, store=store), connect, clock, journal)
        try:
            step(daemon)
            found = read_status(tmp_path / "state").disk
            assert found is not None
            assert (found.free_bytes, found.floor_bytes, found.level) == (
                free[0],
                5 * 10**8,
                "ample",
            )
            free[0] = 300_000_000
            clock.advance(10.0)
            step(daemon)
            assert [each["free_bytes"] for each in journal.of("disk.floor")] == free
            assert daemon._outside.level() == "low"
            found = read_status(tmp_path / "state").disk
            assert found is not None
            assert found.level == "low"
        finally:
            daemon._close()
