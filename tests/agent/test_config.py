# SPDX-License-Identifier: Apache-2.0
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fedmill_agent import sources
from fedmill_agent.config import AgentConfig, load
from fedmill_agent.sources.base import ReplayOptions, SourceKind
from fedmill_agent.sources.csv import CsvOptions
from fedmill_agent.sources.rig import RigOptions
from fedmill_shared.errors import ConfigError

WHOLE = """
[agent]
id = "plant-a"
state = "../var/a"
jobs = ["press"]
log_level = "debug"

[agent.labels]
line = "A"
tags = ["press", "5-axis"]
rated_kn = 400
wear = 0.5
retrofit = true

[broker]
host = "broker.plant"
port = 8883

[training]
enabled = false
idle_seconds = 0
timeout_seconds = 5.5
nice = 19
max_cpu_percent = 80
min_free_bytes = 0
max_temperature_celsius = 75.5
shifts = ["mon-fri 22:00-06:00", "sat 00:00-24:00"]

[store]
max_bytes = 1000000
max_age_days = 0.5

[[sources]]
kind = "csv"
name = "line 1"
path = "data/line1.csv"
split = "train"
units = {force = "kN"}

[[sources]]
kind = "rig"
name = "rig"
"""


class OtherOptions(ReplayOptions, frozen=True, kw_only=True, tag="other"):
    """A kind that a package brings."""

    path: str = ""


OTHER = SourceKind(OtherOptions, lambda *_: iter([]))


def write(folder: Path, text: str) -> Path:
    """A configuration file."""
    path = folder / "agent.toml"
    path.write_text(text)
    return path


class TestLoad:
    def test_a_whole_file(self, tmp_path: Path) -> None:
        """Every field arrives, and paths are relative to the file."""
        config = load(write(tmp_path, WHOLE))
        assert (config.agent.id, config.agent.jobs) == ("plant-a", ["press"])
        assert config.agent.state == str(tmp_path / "../var/a")
        assert (config.broker.host, config.broker.port) == ("broker.plant", 8883)
        assert (config.training.enabled, config.training.nice) == (False, 19)
        assert config.training.max_cpu_percent == 80
        assert config.training.min_free_bytes == 0
        assert config.training.max_temperature_celsius == 75.5
        assert config.training.shifts == ["mon-fri 22:00-06:00", "sat 00:00-24:00"]
        assert config.agent.labels == {
            "line": "A",
            "tags": ["press", "5-axis"],
            "rated_kn": 400,
            "wear": 0.5,
            "retrofit": True,
        }
        assert [type(value) for value in config.agent.labels.values()] == [
            str,
            list,
            int,
            float,
            bool,
        ]
        assert (config.store.max_bytes, config.store.max_age_days) == (1_000_000, 0.5)
        first, second = config.sources
        assert isinstance(first, CsvOptions)
        assert first.path == str(tmp_path / "data" / "line1.csv")
        assert first.units == {"force": "kN"}
        assert isinstance(second, RigOptions)

    def test_the_smallest_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the name is needed; the state lies beside the file, wherever we stand."""
        write(tmp_path, '[agent]\nid = "a"\n')
        monkeypatch.chdir(tmp_path)
        config = load(Path("agent.toml"))
        assert config == AgentConfig(agent=config.agent)
        assert config.agent.state == str(tmp_path / "state")
        assert config.training.enabled
        assert config.training.shifts == []
        assert config.agent.labels == {}

    def test_absolute_paths_stay(self, tmp_path: Path) -> None:
        """A gateway keeps its state under /var."""
        config = load(write(tmp_path, '[agent]\nid = "a"\nstate = "/var/lib/fedmill"\n'))
        assert config.agent.state == "/var/lib/fedmill"

    @pytest.mark.parametrize(
        "entry",
        ['[[sources]]\nkind = "other"\nname = "x"\n', 'sources = [{name = "x", kind = "other"}]'],
    )
    def test_a_kind_that_a_package_brings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
    ) -> None:
        """Its options are found however the file writes them."""
        point = EntryPoint("other", f"{__name__}:OTHER", sources.GROUP)
        monkeypatch.setattr(EntryPoint, "load", lambda _: OTHER)
        monkeypatch.setattr(sources, "_installed", lambda: [point])
        text = '[agent]\nid = "a"\n'
        text = text + entry if entry.startswith("[[") else entry + "\n" + text
        [source] = load(write(tmp_path, text)).sources
        assert source == OtherOptions(name="x")
        assert sources.kind_of(source) is OTHER


class TestHostile:
    @pytest.mark.parametrize(
        "text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "a." * 40_000 + "b = 1"]
    )
    def test_is_refused_before_its_sources_are_looked_for(self, tmp_path: Path, text: str) -> None:
        """By the guards of every TOML file, and in no time."""
        with pytest.raises(ConfigError, match=r"agent\.toml"):
            load(write(tmp_path, f'{text}\n[agent]\nid = "a"\n'))


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("", r"agent.toml:.*agent"),
            ("[agent\n", r"agent.toml:1"),
            ("[agent]\nid = 7\n", r"agent.toml:2: agent.id is 7"),
            ('[agent]\nid = "A"\n', r'agent.toml:2: agent.id is "A": expected text of 1 to 32'),
            ('[agent]\nid = "a\\n"\n', r"agent.toml:2: agent.id is"),
            ('[agent]\nid = "all"\n', r'agent.toml:2: agent.id is "all": .*every agent'),
            ('[agent]\nid = "a"\nidd = "b"\n', r"agent.toml:3: agent.idd is unknown"),
            ('[agent]\nid = "a"\n[broker]\nport = 0\n', r"agent.toml:4: broker.port is 0"),
            ('[agent]\nid = "a"\n[training]\nnice = -1\n', r"agent.toml:4: training.nice is -1"),
            (
                '[agent]\nid = "a"\n[training]\nmax_cpu_percent = 101\n',
                r"agent.toml:4: training.max_cpu_percent is 101: .*at most 100",
            ),
            (
                '[agent]\nid = "a"\n[training]\nmin_free_bytes = 1e8\n',
                r"agent.toml:4: training.min_free_bytes is 100000000.0: .*without a decimal",
            ),
            (
                '[agent]\nid = "a"\n[training]\nmax_temperature_celsius = -1\n',
                r"agent.toml:4: training.max_temperature_celsius is -1",
            ),
            (
                '[agent]\nid = "a"\n[training]\nshifts = "daily 06:00-14:00"\n',
                r"agent.toml:4: training.shifts is .*write it in brackets",
            ),
            (
                '[agent]\nid = "a"\n[training]\nshifts = [\n"mon 06:00-14:00",\n"early",\n]\n',
                r'agent.toml:6: training.shifts\[1\]: "early" is no shift: .*\(write days and',
            ),
            ('[agent]\nid = "a"\n[store]\nmax_bytes = 9\n', r"agent.toml:4: store.max_bytes is 9"),
            (
                '[agent]\nid = "a"\n[[sources]]\nkind = "cvs"\nname = "x"\n',
                r"agent.toml:4: sources\[0\].kind.*cvs",
            ),
            (
                '[agent]\nid = "a"\n[[sources]]\nkind = "csv"\nname = "x"\n',
                r"agent.toml:3: \[\[sources\]\] has no path",
            ),
            (
                '[agent]\nid = "a"\n[[sources]]\nkind = "rig"\nname = "x"\nspeed = -1.0\n',
                r"agent.toml:\d: .*`?speed`?.*-1.0",
            ),
            (
                '[agent]\nid = "a"\n' + '[[sources]]\nkind = "rig"\nname = "x"\n' * 2,
                r'agent.toml:8: sources\[1\].name is "x": sources\[0\] has the same name',
            ),
        ],
    )
    def test_names_file_line_field_and_value(self, tmp_path: Path, text: str, told: str) -> None:
        """One line, before anything is started."""
        with pytest.raises(ConfigError, match=told):
            load(write(tmp_path, text))

    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            ('line = "A"\nLine = "A"\n', r'toml:5: \[agent.labels\] has the name "Line"'),
            ("Line = 1\n", r"\(write at most 32 small letters, digits and _, a letter first\)$"),
            ('"a\\n" = 1\n', r"toml:4: \[agent.labels\] has the name"),
            ("a = 1\nin = 2\n", r"toml:5: agent.labels.in: in is a word that .* \(choose another"),
            ("class = 2\n", r"toml:4: agent.labels.class: class is a word"),
            (
                'agent = "b"\n',
                r"toml:4: agent.labels.agent: selectors find the agent's id under .* \(choose",
            ),
            (f'line = "{"A" * 201}"\n', r"toml:4: agent.labels.line is .*at most 200 characters"),
            ("tags = [1]\n", r"toml:4: agent.labels.tags\[0\] is 1: expected text"),
            (f"tags = {['a'] * 33}\n", r"toml:4: agent.labels.tags is .*at most 32 items"),
            ("since = 2024-01-01\n", r"toml:4: agent.labels.since is 2024-01-01: expected text"),
            ("plant = {line = 1}\n", r"toml:4: agent.labels.plant is a table: expected text"),
            (f"rate = {2**63}\n", r"toml:4: agent.labels.rate is 9.*64-bit"),
            (
                "".join(f"a{number} = 1\n" for number in range(33)),
                r"toml:3: agent.labels has 33 labels: at most 32 .* \(make one list",
            ),
        ],
    )
    def test_labels(self, tmp_path: Path, lines: str, told: str) -> None:
        """Each fault of a label has its line."""
        with pytest.raises(ConfigError, match=told):
            load(write(tmp_path, f'[agent]\nid = "a"\n[agent.labels]\n{lines}'))

    def test_a_missing_file(self, tmp_path: Path) -> None:
        """It is named."""
        with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read"):
            load(tmp_path / "nowhere.toml")
