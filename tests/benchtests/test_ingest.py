# SPDX-License-Identifier: Apache-2.0
"""The path that the ingest bench measures is the one that data takes."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tests.bench.feeding import CASES, Case, feeding, options_of
from tests.bench.ingest import LENGTH, Line, deliveries, throughput

from fedmill_agent.sources import live_of
from fedmill_agent.sources.live import Readings
from fedmill_agent.sources.wanted import wanted_of
from fedmill_shared.clock import SystemClock


class TestPath:
    def test_every_value_is_counted_and_windows_are_cut(self) -> None:
        """A second of 10 signals at 1 kHz; half of a window overlaps the next."""
        line, source = Line(10, 1000.0), deliveries(10, 1000.0)
        for readings, now in islice(source, 40):
            line.take(readings, now)
        assert line.samples == 40 * 10 * 100
        assert line.windows == (4000 - LENGTH) // (LENGTH // 2) + 1

    def test_bad_values_are_among_them(self) -> None:
        """About one in a thousand, so that cleaning has work."""
        (readings, _) = next(deliveries(100, 1000.0))
        share = np.mean([np.isnan(each.values).mean() for each in readings])
        assert 0.0003 < share < 0.003

    def test_a_rate_is_measured(self) -> None:
        """It is above nothing."""
        assert throughput(1, 100.0, 0.05) > 0


class TestCases:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.signals}")
    def test_sources_map_every_signal(self, case: Case) -> None:
        """One tag each, at the rate of the server."""
        options = options_of(case, 4840)
        assert list(options.tags.values()) == case.tags
        wanted = wanted_of(options, Line(case.signals, case.rate_hz).declared, case.tags)
        assert set(wanted.factors) == {1}
        assert all(wanted.sampled)

    @pytest.mark.system
    def test_a_server_plays_them(self, tmp_path: Path) -> None:
        """Blocks of every signal come."""
        case = Case("modbus", 3, 200.0)
        with feeding(case, tmp_path) as options:
            session = live_of(options).open(options, case.tags, SystemClock())
            seen: set[str] = set()
            for _ in range(200):
                seen |= {e.tag for e in session.read(0.1) if isinstance(e, Readings) and len(e) > 1}
                if len(seen) == 3:
                    break
            session.close()
        assert seen == set(case.tags)
