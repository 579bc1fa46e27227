# SPDX-License-Identifier: Apache-2.0
"""The registry of source kinds, and what every built-in kind promises."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.io import savemat

from fedmill_agent import sources
from fedmill_agent.sources.base import (
    LabelInterval,
    ReplayOptions,
    RunEnded,
    Samples,
    SourceKind,
    SourceOptions,
    narrow,
)
from fedmill_agent.sources.rig import RigOptions
from fedmill_agent.sources.tep import TepOptions
from fedmill_shared.errors import ConfigError, DataError


def entry(value: object, monkeypatch: pytest.MonkeyPatch, name: str = "plc") -> EntryPoint:
    """An entry point that loads ``value``."""
    module = ModuleType("fedmill_test_plugin")
    module.__dict__["KIND"] = value
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return EntryPoint(name, f"{module.__name__}:KIND", sources.GROUP)


class PlcOptions(ReplayOptions, frozen=True, kw_only=True, tag="plc"):
    """Options of a third party."""

    address: str


PLC = SourceKind(PlcOptions, lambda _options, _tags, _rate: iter([RunEnded("x")]))


class TestRegistry:
    def test_names_are_the_tags_of_the_options(self) -> None:
        """`kind` in a configuration is the key of the registry."""
        files, live = {"cmapss", "csv", "mat", "parquet", "tep"}, {"host", "rest", "tail"}
        assert files | live <= sources.builtin()
        for name, kind in sources.kinds(sources.builtin()).items():
            assert kind.options.__struct_config__.tag == name

    def test_options_are_decoded_by_kind(self) -> None:
        """The union picks the type by its tag, and refuses unknown kinds and fields."""
        options = msgspec.convert(
            {"kind": "tep", "name": "plant", "path": "d01.dat"}, sources.options_type()
        )
        assert options == TepOptions(name="plant", path="d01.dat")
        for wrong in ({"kind": "warp", "name": "x"}, {"kind": "rig", "name": "x", "path": "y"}):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert(wrong, sources.options_type())

    def test_import_is_cheap(self) -> None:
        """Neither scipy nor torch nor ONNX Runtime comes with the registry."""
        code = (
            "import sys, fedmill_agent.sources\n"
            "print(*sorted({'scipy', 'torch', 'onnxruntime', 'sqlalchemy'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert done.stdout.strip() == b""

    def test_only_what_is_named_is_imported(self, tmp_path: Path) -> None:
        """A configuration brings the kinds that it names; a wrong name tells all that there are."""
        path = tmp_path / "agent.toml"
        path.write_text(
            '[agent]\nid = "a"\n[[sources]]\nkind = "csv"\nname = "x"\npath = "x.csv"\n'
        )
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from fedmill_agent import config, sources\n"
            "from fedmill_shared.errors import ConfigError\n"
            f"path = Path({str(path)!r})\n"
            "config.load(path)\n"
            "kinds = [f'fedmill_agent.sources.{name}' for name in sorted(sources.builtin())]\n"
            "print(*[name for name in kinds if name in sys.modules])\n"
            "path.write_text(path.read_text().replace('csv', 'vsc'))\n"
            "try: config.load(path)\n"
            "except ConfigError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        imported, refused = done.stdout.decode().splitlines()
        assert imported == "fedmill_agent.sources.csv"
        assert f'{path}:4: sources[0].kind is "vsc"' in refused
        assert all(f'"{name}"' in refused for name in sources.builtin())


class TestThirdParties:
    def test_an_entry_point_adds_a_kind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its options are decoded like the built-in ones."""
        found = [entry(PLC, monkeypatch)]
        assert sources.kinds(found=found)["plc"] is PLC
        raw = {"kind": "plc", "name": "press", "address": "10.0.0.7"}
        assert msgspec.convert(raw, sources.options_type(found=found)) == PlcOptions(
            name="press", address="10.0.0.7"
        )

    @pytest.mark.parametrize(
        ("value", "name", "message"),
        [
            ("text", "plc", "not a SourceKind"),
            (PLC, "press", "have the tag 'plc'"),
            (PLC, "csv", "already a source"),
        ],
    )
    def test_unfit_entry_points_are_named(
        self, monkeypatch: pytest.MonkeyPatch, value: object, name: str, message: str
    ) -> None:
        """The error names the kind, the object and the reason."""
        with pytest.raises(ConfigError, match=message) as caught:
            sources.kinds(found=[entry(value, monkeypatch, name)])
        assert f"{name!r} (fedmill_test_plugin:KIND)" in str(caught.value)

    def test_a_kind_is_live_or_a_recording(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that is neither would never be read."""

        class Odd(SourceOptions, frozen=True, kw_only=True, tag="odd"):
            pass

        with pytest.raises(ConfigError, match="not live, and its options are no ReplayOptions"):
            sources.kinds(found=[entry(SourceKind(Odd), monkeypatch, "odd")])

    @pytest.mark.parametrize("value", ["no_such_package_xyz:KIND", "json:no_such_attribute"])
    def test_import_errors_are_config_errors(self, value: str) -> None:
        """A package that cannot be imported does not end in a traceback."""
        with pytest.raises(ConfigError, match="cannot be used"):
            sources.kinds(found=[EntryPoint("plc", value, sources.GROUP)])


class TestCommonOptions:
    def test_start_and_speed_are_checked_while_decoding(self) -> None:
        """The configuration file is refused, not the replay a minute later."""
        for field, value in (("start", "soon"), ("speed", -1.0), ("speed", float("nan"))):
            with pytest.raises(msgspec.ValidationError, match=field):
                msgspec.convert({"kind": "rig", "name": "x", field: value}, sources.options_type())

    def test_options_of_another_kind_are_refused(self) -> None:
        """A reader that gets foreign options says so."""
        with pytest.raises(ConfigError, match="RigOptions given, TepOptions expected"):
            narrow(RigOptions(name="x"), TepOptions)


def make_sample(kind: str, folder: Path) -> tuple[SourceOptions, str]:
    """Options of a small recording of ``kind``, and one of its tags."""
    path = str(folder / f"sample.{kind}")
    rng = np.random.default_rng(1)
    if kind == "cmapss":
        lives = [[u, c, *rng.random(24)] for u in (1, 2) for c in range(1, 6)]
        np.savetxt(path, np.array(lives))
        return sources.cmapss.CmapssOptions(name="x", path=path), "s7"
    if kind == "csv":
        Path(path).write_text("a,b\n" + "1,2\n" * 20000)
        return sources.csv.CsvOptions(name="x", path=path, label_column="b"), "a"
    if kind == "mat":
        path = str(folder / "sample.mat")
        savemat(path, {"a": rng.random((20000, 1))})
        return sources.mat.MatOptions(name="x", path=path, label="fine"), "a"
    if kind == "parquet":
        columns = {"a": rng.random(20_000), "b": ["fine"] * 20_000}
        parquet.write_table(pa.table(columns), path, row_group_size=3000)
        return sources.parquet.ParquetOptions(name="x", path=path, label_column="b"), "a"
    if kind == "tep":
        np.savetxt(path, rng.random((9000, 52)), fmt="%.3f")
        return TepOptions(name="x", path=path, label="fine"), "xmv11"
    return RigOptions(name="x", seconds=1.7), "vibration"


RECORDINGS = sorted(name for name, kind in sources.kinds().items() if kind.live is None)


@pytest.mark.parametrize("kind", RECORDINGS)
class TestEveryKind:
    def test_runs_are_gapless_labelled_and_ended(self, kind: str, tmp_path: Path) -> None:
        """Samples join on, the label spans first to last sample, and the end comes last."""
        options, tag = make_sample(kind, tmp_path)
        rate = 12_000.0
        events = list(sources.kinds([kind])[kind].read(options, [tag, tag], rate))
        runs = list(dict.fromkeys(event.run for event in events))
        assert len(runs) == (2 if kind == "cmapss" else 1)
        for run in runs:
            own = [event for event in events if event.run == run]
            samples = [event for event in own if isinstance(event, Samples)]
            labels = [event for event in own if isinstance(event, LabelInterval)]
            assert own[-1] == RunEnded(run)
            assert own[len(samples) : -1] == labels
            assert {event.period_ns for event in samples} == {83_333}
            for before, after in pairwise(samples):
                assert after.start_ns == before.start_ns + before.values.shape[1] * 83_333
            last = samples[-1]
            assert [label.start_ns for label in labels] == [samples[0].start_ns]
            assert labels[0].end_ns == last.start_ns + (last.values.shape[1] - 1) * 83_333
            for event in samples:
                assert event.values.dtype == np.float64
                assert event.values.shape[0] == 2
                assert 0 < event.values.shape[1] <= 8192
                assert np.array_equal(event.values[0], event.values[1])

    def test_begins_at_start(self, kind: str, tmp_path: Path) -> None:
        """The first sample has the time that the options ask for."""
        options, tag = make_sample(kind, tmp_path)
        options = msgspec.structs.replace(options, start="2030-05-06T07:08:09Z")
        first = next(sources.kinds([kind])[kind].read(options, [tag], 12_000.0))
        assert isinstance(first, Samples)
        assert first.start_ns == 1_904_281_689_000_000_000

    def test_unknown_tag_is_a_data_error(self, kind: str, tmp_path: Path) -> None:
        """It names the tag."""
        options, _ = make_sample(kind, tmp_path)
        with pytest.raises(DataError, match="warp_drive"):
            list(sources.kinds([kind])[kind].read(options, ["warp_drive"], 12_000.0))


@pytest.mark.parametrize("kind", sorted(set(RECORDINGS) - {"rig"}))
class TestEveryKindOfFile:
    def test_missing_file_is_a_data_error(self, kind: str, tmp_path: Path) -> None:
        """It names the path."""
        options, tag = make_sample(kind, tmp_path)
        options = msgspec.structs.replace(options, path=str(tmp_path / "gone"))
        with pytest.raises(DataError, match="gone: cannot be read"):
            list(sources.kinds([kind])[kind].read(options, [tag], 12_000.0))
