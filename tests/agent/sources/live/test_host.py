# SPDX-License-Identifier: Apache-2.0
"""The machine itself as a source."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.sources.live.machine import Disk, FakeSystem, Network, Sensor, machine

from fedmill_agent.sources.host import KIND, HostOptions
from fedmill_agent.sources.host.families import FAMILIES, split, tag_of
from fedmill_agent.sources.host.look import Count
from fedmill_agent.sources.host.rates import Rates
from fedmill_agent.sources.host.session import HostSession, found_on
from fedmill_agent.sources.live import BAD, GOOD, Delivered, Readings
from fedmill_shared.clock import ManualClock, SystemClock
from fedmill_shared.errors import ConfigError
from fedmill_shared.signals.units import UNITS

LIVE = KIND.live
assert LIVE is not None


def numbers(delivered: Sequence[Delivered]) -> dict[str, float]:
    """Tag -> value of what are readings."""
    return {each.tag: float(each.values[0]) for each in delivered if isinstance(each, Readings)}


def session(system: FakeSystem, clock: ManualClock, tags: list[str]) -> HostSession:
    """A session that asks every second."""
    return HostSession(machine(system, clock), tags, 1.0)


class TestLevels:
    def test_what_a_machine_tells(self, tmp_path: Path) -> None:
        """Literal values under the documented names."""
        pressure = tmp_path / "proc/pressure"
        pressure.mkdir(parents=True)
        (pressure / "memory").write_text("some avg10=1.25 avg60=0.5 avg300=0.1 total=99\nfull x\n")
        expected = {
            "cpu_frequency_hertz": 2.4e9,
            "load_1_minute": 1.0,
            "load_5_minutes": 2.0,
            "load_15_minutes": 3.0,
            "pressure_percent.memory": 1.25,
            "processes": 3.0,
            "memory_used_percent": 25.0,
            "memory_available_bytes": 3e9,
            "swap_used_percent": 0.0,
            "temperature_celsius": 55.0,
            "temperature_celsius.coretemp_core_0": 48.0,
            "temperature_celsius.acpitz": 30.0,
            "fan_rpm.dell_smm_cpu_fan": 2100.0,
            "disk_used_percent./": 40.0,
            "disk_free_bytes./": 60.0,
        }
        own = machine(FakeSystem(), ManualClock(), tmp_path)
        assert own.values(list(expected)) == expected
        assert own.problems == {}

    def test_absurd_sensors_are_no_values(self) -> None:
        """A sensor that reads 255 is bad, and never the hottest."""
        system = FakeSystem()
        own = machine(system, ManualClock())
        assert math.isnan(
            own.values(["temperature_celsius.acpitz_2"])["temperature_celsius.acpitz_2"]
        )
        system.temperatures = {"acpitz": [Sensor("", 255.0)]}
        assert math.isnan(own.values(["temperature_celsius"])["temperature_celsius"])

    def test_what_is_not_there_is_a_problem_of_its_own(self) -> None:
        """The other tags come, and so does this one once it is there."""
        system, clock = FakeSystem(), ManualClock()
        own = session(system, clock, ["battery_percent", "fan_rpm.gone", "load_1_minute",
                                      "disk_free_bytes./data", "pressure_percent.io",
                                      "temperature_celsius.usb"])  # fmt: skip
        assert numbers(own.read(0.0)) == {"load_1_minute": 1.0}
        assert set(own.problems) == {"battery_percent", "fan_rpm.gone", "disk_free_bytes./data",
                                     "pressure_percent.io", "temperature_celsius.usb"}  # fmt: skip
        assert "does not tell the fan_rpm of 'gone'" in own.problems["fan_rpm.gone"]
        system.temperatures["usb"] = [Sensor("", 20.0)]
        clock.advance(1.0)
        assert numbers(own.read(0.0))["temperature_celsius.usb"] == 20.0
        assert "temperature_celsius.usb" not in own.problems

    def test_each_file_is_read_once(self) -> None:
        """Four tags of the processors take one look at each of its files."""
        system = FakeSystem()
        tags = ["cpu_percent", "cpu_percent.0", "cpu_percent.1", "cpu_user_percent"]
        machine(system, ManualClock()).values(tags)
        assert system.reads == 2


class TestShares:
    def test_processors_between_two_polls(self) -> None:
        """In use is all but idling and waiting, of the time that went by on that core."""
        system, clock = FakeSystem(), ManualClock()
        tags = ["cpu_percent", "cpu_percent.0", "cpu_percent.1", "cpu_user_percent",
                "cpu_system_percent", "cpu_waiting_percent", "cpu_stolen_percent"]  # fmt: skip
        own = machine(system, clock)
        assert own.values(tags) == {}
        system.spend(0, user=0.5, system=0.25, idle=0.25)
        system.spend(1, iowait=0.5, idle=0.25, steal=0.25)
        assert own.values(tags) == {
            "cpu_percent": 50.0,
            "cpu_percent.0": 75.0,
            "cpu_percent.1": 25.0,
            "cpu_user_percent": 25.0,
            "cpu_system_percent": 12.5,
            "cpu_waiting_percent": 25.0,
            "cpu_stolen_percent": 12.5,
        }

    def test_guests_do_not_count_twice(self) -> None:
        """The kernel has them in ``user`` already."""
        system = FakeSystem()
        own = machine(system, ManualClock())
        own.values(["cpu_percent"])
        system.spend(0, user=1.0, guest=1.0)
        system.spend(1, idle=1.0)
        assert own.values(["cpu_percent"]) == {"cpu_percent": 50.0}

    def test_no_time_no_value(self) -> None:
        """Two looks within one tick of the kernel say nothing, and lose nothing."""
        rates = Rates()
        assert rates.share("a", Count(1.0, 10.0)) is None
        assert rates.share("a", Count(1.0, 10.0)) is None
        assert rates.share("a", Count(2.0, 12.0)) == 50.0

    def test_counters_of_the_kernel_may_falter(self) -> None:
        """Waiting time that goes back a little is 0; a whole that goes back was reset."""
        rates = Rates()
        rates.share("a", Count(5.0, 10.0))
        assert rates.share("a", Count(4.9, 11.0)) == 0.0
        assert math.isnan(rates.share("a", Count(1.0, 2.0)) or 0.0)
        assert rates.share("a", Count(2.0, 3.0)) == 100.0

    @given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), max_size=20))
    def test_never_outside_0_to_100(self, looks: list[tuple[float, float]]) -> None:
        """Whatever the counters do."""
        rates = Rates()
        for amount, whole in looks:
            found = rates.share("a", Count(amount, whole))
            assert found is None or math.isnan(found) or 0.0 <= found <= 100.0


class TestSpeeds:
    def test_disks_and_networks(self) -> None:
        """What went by each second; partitions, volumes and the loopback do not count twice."""
        system, clock = FakeSystem(), ManualClock()
        system.disks["dm-0"] = Disk(1, 1, 80, 180, 5)
        tags = ["disk_read_bytes_per_second.vda1", "disk_busy_percent.vda",
                "network_receive_bytes_per_second", "network_send_bytes_per_second.lo",
                "network_errors_per_second", "context_switches_per_second"]  # fmt: skip
        own = machine(system, clock)
        assert own.values(tags) == {}
        clock.advance(2.0)
        system.disks = {"vda": Disk(3, 2, 300, 600, 505), "vda1": Disk(2, 2, 290, 590, 505)}
        system.networks = {"lo": Network(105, 105, 0, 0), "eth0": Network(10, 1020, 3, 0)}
        assert own.values(tags) == {
            "disk_read_bytes_per_second.vda1": 100.0,
            "disk_busy_percent.vda": 25.0,
            "network_receive_bytes_per_second": 500.0,
            "network_send_bytes_per_second.lo": 50.0,
            "network_errors_per_second": 1.0,
            "context_switches_per_second": 0.0,
        }

    def test_all_disks_are_those_that_carry_others(self, tmp_path: Path) -> None:
        """With the kernel's list of disks at hand, neither partition nor volume is one."""
        for name in ("vda", "dm-0", "loop0"):
            (tmp_path / "sys/block" / name).mkdir(parents=True)
        system, clock = FakeSystem(), ManualClock()
        own = machine(system, clock, tmp_path)
        own.values(["disk_write_bytes_per_second"])
        clock.advance(1.0)
        more = Disk(9, 9, 1000, 1000, 9)
        system.disks = {"vda": more, "vda1": more, "dm-0": more, "loop0": more}
        assert own.values(["disk_write_bytes_per_second"]) == {"disk_write_bytes_per_second": 800.0}

    def test_a_counter_that_wraps_goes_on(self) -> None:
        """32 bits are full every 34 s at 1 Gbit/s; the last speed explains the step."""
        rates = Rates()
        rates.speed("a", Count(2.0**32 - 300), 0.0)
        rates.speed("a", Count(2.0**32 - 200), 1.0)
        assert rates.speed("a", Count(50.0), 2.0) == 250.0

    def test_a_counter_that_was_reset_is_bad_once(self) -> None:
        """An interface that was plugged in again has not brought 4 GB in a second."""
        rates = Rates()
        rates.speed("a", Count(1000.0), 0.0)
        assert rates.speed("a", Count(1100.0), 1.0) == 100.0
        assert math.isnan(rates.speed("a", Count(10.0), 2.0) or 0.0)
        assert rates.speed("a", Count(30.0), 3.0) == 20.0

    def test_a_part_that_went_away_begins_anew(self) -> None:
        """Its first poll after that says nothing."""
        system, clock = FakeSystem(), ManualClock()
        own, tag = machine(system, clock), "network_receive_bytes_per_second.eth0"
        own.values([tag])
        del system.networks["eth0"]
        assert own.values([tag]) == {}
        assert tag in own.problems
        clock.advance(5.0)
        system.networks["eth0"] = Network(10, 10**6, 0, 0)
        assert own.values([tag]) == {}
        assert own.problems == {}

    @given(st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 10)), max_size=20))
    def test_never_negative(self, looks: list[tuple[float, float]]) -> None:
        """Whatever the counters do."""
        rates, now = Rates(), 0.0
        for amount, seconds in looks:
            now += seconds
            found = rates.speed("a", Count(amount), now)
            assert found is None or math.isnan(found) or found >= 0.0


class TestSession:
    def test_readings_have_the_time_of_the_look(self) -> None:
        """All tags of one look share it; a value that is none is bad."""
        clock = ManualClock()
        own = session(FakeSystem(), clock, ["load_1_minute", "temperature_celsius.acpitz_2"])
        first, second = own.read(0.0)
        assert isinstance(first, Readings)
        assert isinstance(second, Readings)
        assert first.times_ns[0] == second.times_ns[0] == clock.now_ns()
        assert (first.quality[0], second.quality[0]) == (GOOD, BAD)

    def test_asks_when_it_is_time(self) -> None:
        """Nothing in between; polls that were missed are counted and not made up for."""
        clock = ManualClock()
        own = session(FakeSystem(), clock, ["load_1_minute"])
        assert len(own.read(0.0)) == 1
        clock.advance(0.5)
        assert own.read(0.0) == []
        clock.advance(3.0)
        assert len(own.read(0.0)) == 1
        assert own.counts == {"late poll": 2}
        clock.advance(0.4)
        assert own.read(0.0) == []
        clock.advance(0.1)
        assert len(own.read(0.0)) == 1
        own.close()

    def test_unknown_kinds_of_tag_are_refused(self) -> None:
        """At once, with all there are."""
        with pytest.raises(ConfigError, match="has no tag 'cpu'") as caught:
            LIVE.open(HostOptions(name="box"), ["load_1_minute", "cpu"], SystemClock())
        assert "cpu_percent" in caught.value.remedy


class TestThisMachine:
    def test_everything_that_is_found_can_be_read(self) -> None:
        """Every tag of the machine that runs the test gives finite values in two polls."""
        clock = SystemClock()
        found = {each.tag: each for each in LIVE.discover(HostOptions(name="box"), clock)}  # type: ignore[misc]
        assert {"cpu_percent", "cpu_percent.0", "memory_used_percent"} <= set(found)
        tags = list(found)
        own = LIVE.open(HostOptions(name="box", interval_seconds=0.1), tags, clock)
        seen: dict[str, float] = {}
        polls = 0
        while polls < 3:
            came = own.read(0.5)
            polls += bool(came)
            seen |= numbers(came)
        own.close()
        assert own.problems == {}
        assert set(tags) == set(seen)
        assert np.isfinite(list(seen.values())).all()
        assert 0 <= seen["cpu_percent"] <= 100
        assert 0 < seen["memory_used_percent"] < 100


class TestTable:
    def test_listing(self) -> None:
        """Names, units and values; what the machine does not have is left out."""
        found = {each.tag: each for each in found_on(machine(FakeSystem(), ManualClock()))}
        assert found["temperature_celsius.coretemp_core_0"].value == "48"
        assert found["temperature_celsius.coretemp_core_0"].unit == "degC"
        assert {"disk_used_percent./", "fan_rpm.dell_smm_cpu_fan"} <= set(found)
        assert not {"battery_percent", "pressure_percent.io", "disk_busy_percent"} & set(found)
        assert "disk_used_percent./usr" not in found

    def test_units_are_known(self) -> None:
        """A job can convert every one of them."""
        assert {family.unit for family in FAMILIES.values()} <= set(UNITS)

    def test_tags_are_split_at_the_first_stop(self) -> None:
        """Folders and interfaces have stops in their names."""
        assert split("disk_free_bytes./srv/v1.2") == ("disk_free_bytes", "/srv/v1.2")
        assert split(tag_of("cpu_percent", "")) == ("cpu_percent", "")

    def test_every_family_is_documented(self) -> None:
        """The page of the sources has a row for each, with its unit."""
        page = (Path(__file__).parents[4] / "docs/sources.md").read_text()
        for name, family in FAMILIES.items():
            assert f"| `{name}` | {family.unit} |" in page
