# SPDX-License-Identifier: Apache-2.0
"""``fedmill fleet``: what agents wish for, and what came of it."""

from collections.abc import Callable
from types import SimpleNamespace

from click.testing import Result
from msgspec import json
from tests.coordinator.cli.test_releases import serves

from fedmill_coordinator.store.records_wishes import WishRecord
from fedmill_coordinator.store.sql import SqlStore

Run = Callable[..., Result]


class TestWishes:
    def test_in_the_fleet(self, run: Run, plant: SimpleNamespace) -> None:
        """Who wished for what, why, and what came of it."""
        with SqlStore.in_file(plant.database) as store:
            for agent, reason, settled, rounds in (
                ("press-1", "force: PSI 0.4", None, 0),
                ("press-2", "a shift\x1b[31m", 10**18, 3),
            ):
                store.save_wish(
                    WishRecord(
                        job="tiny",
                        agent=agent,
                        kind="round",
                        reason=reason,
                        evidence='{"psi":0.4}',
                        heard_ns=10**18,
                        settled_ns=settled,
                        rounds=rounds,
                    )
                )
            serves(store, "press-1", plant.versions[1])
        output = " ".join(run("fleet", plant.config).output.split())
        assert "press-1 tiny round 2001-09-09 01:46:40 waits force: PSI 0.4" in output
        assert "3 rounds" in output
        assert "\x1b" not in output
        told = json.decode(run("fleet", plant.config, "--json").stdout)
        assert told[0]["jobs"][0]["wish"] == {
            "kind": "round",
            "reason": "force: PSI 0.4",
            "evidence": {"psi": 0.4},
            "heard": "2001-09-09 01:46:40",
            "outcome": "waits",
            "rounds": 0,
        }
