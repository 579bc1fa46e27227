# SPDX-License-Identifier: Apache-2.0
import gzip
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scipy.io import savemat
from tests.agent.kit import LENGTH, Versions, a_job, two_classes, write_csv

from fedmill_agent import sources
from fedmill_agent.cli import main
from fedmill_agent.cli.settings import file_source
from fedmill_agent.sources.cmapss import CmapssOptions
from fedmill_shared.job import Job, Labels, Mlp, Signal, Task, Window

Export = Callable[[Versions], Path]
ENGINES = Job(
    job=Task(name="engines", task="regression"),
    signals=[Signal(name="t24", tag="s2"), Signal(name="t30", tag="s3")],
    window=Window(length=4, stride=1, pad="edge", normalise="none"),
    labels=Labels(unit="h"),
    model=Mlp(hidden=[4, 3]),
)
BEARINGS = Job(
    job=Task(name="bearings"),
    signals=[Signal(name="vibration", unit="g", rate_hz=12_000.0, tag="*_DE_time")],
    window=Window(length=1024),
    labels=Labels(classes=["normal", "inner", "outer"]),
    model=Mlp(hidden=[8, 8]),
)


@pytest.fixture
def press() -> Versions:
    """A model of the tiny job with weights that tell something apart."""
    versions = Versions(a_job())
    versions.advance(seed=1, scale=1.0)
    return versions


def torch_says(versions: Versions, windows: np.ndarray) -> np.ndarray:
    """Outputs of the newest version in torch."""
    versions.architecture.model.load(versions.newest.vector)
    return versions.architecture.model.predict(windows.astype(np.float32))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """The JSON objects that were printed."""
    return [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]


def same_classes(found: list[dict[str, object]], outputs: np.ndarray, names: list[str]) -> None:
    """Every class, and its probability, is the one of ``outputs``."""
    assert [line["class"] for line in found] == [names[i] for i in outputs.argmax(1)]
    shares = np.exp(outputs - outputs.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose([line["probability"] for line in found], shares.max(1), atol=1e-4)


class TestClassification:
    @pytest.mark.parametrize("packed", [False, True])
    def test_csv(
        self,
        press: Versions,
        export: Export,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        *,
        packed: bool,
    ) -> None:
        """Classes are torch's, run by run; also of a gzipped file."""
        runs = two_classes(6, windows=5)
        path = write_csv(tmp_path / "line.csv", runs)
        if packed:
            path = tmp_path / "line.csv.gz"
            path.write_bytes(gzip.compress((tmp_path / "line.csv").read_bytes()))
        options = ["--set", "run_column=run", "--set", "run=x", "--json"]
        assert main(["replay", str(path), "--model", str(export(press)), *options]) == 0
        found = lines(capsys)
        windows = np.array(list(runs.values())).reshape(-1, 1, LENGTH)
        outputs = torch_says(press, windows)
        assert len(set(outputs.argmax(1))) == 2
        same_classes(found, outputs, ["good", "worn"])
        assert [line["run"] for line in found] == [f"x-{run}" for run in runs for _ in range(5)]
        assert found[1]["end"] == "2024-01-01T00:00:15.000Z"

    def test_mat(
        self,
        press: Versions,
        export: Export,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The samples behind the last whole window are in a window of their own."""
        values = np.random.default_rng(0).normal(size=8 * 20 + 3)
        savemat(tmp_path / "a.mat", {"vibration": values})
        assert (
            main(["replay", str(tmp_path / "a.mat"), "--model", str(export(press)), "--json"]) == 0
        )
        starts = [*range(0, 160, 8), 155]
        windows = np.stack([values[start : start + 8] for start in starts])[:, None]
        same_classes(lines(capsys), torch_says(press, windows), ["good", "worn"])

    def test_bad_windows_are_left_out(
        self,
        press: Versions,
        export: Export,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A long gap, and a value that no float32 holds."""
        values = [*map(float, range(8)), *["nan"] * 8, *[1e300] * 8, *map(float, range(8))]
        path = write_csv(tmp_path / "a.csv", {"r": values})
        assert main(["replay", str(path), "--model", str(export(press))]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first.split()[:2] == ["a", "2024-01-01T00:00:07.000Z"]
        assert first.split()[2:] == second.split()[2:]

    def test_another_column_in_another_unit(
        self,
        press: Versions,
        export: Export,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """A recording in m/s2 under a name of the plant's own gives what it gives in g."""
        in_g = two_classes()
        plant = {run: [9.80665 * value for value in values] for run, values in in_g.items()}
        write_csv(tmp_path / "g.csv", in_g)
        text = write_csv(tmp_path / "plant.csv", plant).read_text()
        (tmp_path / "plant.csv").write_text(text.replace("vibration", "PLC_4711", 1))
        common = ["--model", str(export(press)), "--set", "run_column=run", "--set", "run=x"]
        assert main(["replay", str(tmp_path / "g.csv"), *common]) == 0
        expected = capsys.readouterr().out
        options = ["--tag", "vibration=PLC_4711", "--unit", "vibration=m/s2"]
        assert main(["replay", str(tmp_path / "plant.csv"), *common, *options]) == 0
        assert capsys.readouterr().out == expected

    @pytest.mark.parametrize(
        ("option", "code"),
        [
            (["--unit", "vibration"], 2),
            (["--unit", "vibration=degC"], 12),
            (["--tag", "wibration=x"], 12),
        ],
    )
    def test_a_wrong_mapping(
        self,
        press: Versions,
        export: Export,
        capsys: pytest.CaptureFixture[str],
        option: list[str],
        code: int,
    ) -> None:
        """The signal, the unit or the missing equals sign is named."""
        model = export(press)
        path = write_csv(model.with_name("a.csv"), two_classes())
        assert main(["replay", str(path), "--model", str(model), *option]) == code
        assert option[1].split("=")[0] in capsys.readouterr().err

    @pytest.mark.data
    @pytest.mark.parametrize("name", ["12k_DE/IR007_0.mat", "normal/Normal_0.mat"])
    def test_a_real_bearing(
        self, data_folder: Path, export: Export, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        """Every window of a CWRU recording has the class that torch gives it."""
        from scipy.io import loadmat

        path = data_folder / "cwru" / name
        versions = Versions(BEARINGS)
        versions.advance(seed=4, scale=0.5)
        tag = ["--set", "rate_hz=12000"]
        assert main(["replay", str(path), "--model", str(export(versions)), "--json", *tag]) == 0
        recording = loadmat(path)
        [series] = [values for key, values in recording.items() if key.endswith("_DE_time")]
        values = series.ravel()
        starts = [*range(0, len(values) - 1023, 1024), len(values) - 1024]
        windows = np.stack([values[start : start + 1024] for start in starts])[:, None]
        found = lines(capsys)
        assert len(found) == len(values) // 1024 + 1
        same_classes(found, torch_says(versions, windows), BEARINGS.labels.classes)


class TestRegression:
    def test_engine_lives(
        self, export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """C-MAPSS text: padded at the start of each life, a number for each cycle."""
        versions = Versions(ENGINES)
        versions.advance(seed=2, scale=0.3)
        generator = np.random.default_rng(0)
        lives = {
            1: generator.normal(size=(6, 24)).round(4),
            2: generator.normal(size=(3, 24)).round(4),
        }
        rows = [
            " ".join(map(str, [unit, cycle, *row]))
            for unit, life in lives.items()
            for cycle, row in enumerate(life, 1)
        ]
        path = tmp_path / "train_FD001.txt"
        path.write_text("\n".join(rows) + "\n")
        model = export(versions)
        assert main(["replay", str(path), "--model", str(model), "--json"]) == 0
        found = lines(capsys)
        windows = []
        for life in lives.values():
            both = np.pad(life[:, [4, 5]].T, ((0, 0), (3, 0)), mode="edge")
            windows += [both[:, at : at + 4] for at in range(len(life))]
        expected = torch_says(versions, np.stack(windows))[:, 0]
        np.testing.assert_allclose([line["value"] for line in found], expected, atol=1e-4)
        assert [line["run"] for line in found] == ["train_FD001-1"] * 6 + ["train_FD001-2"] * 3
        assert {line["unit"] for line in found} == {"h"}


class TestFaults:
    @pytest.mark.parametrize(
        ("name", "content", "code", "told"),
        [
            ("a.mat", b"garbage", 13, "a.mat"),
            ("a.csv", b"\x00\xff\x00", 13, "a.csv"),
            ("a.csv", b"time,force\n1,2\n", 13, "vibration"),
            ("a.csv", b"vibration\n1\n2\n3\n", 13, "no usable window of 8 samples"),
            ("a.csv", b"vibration\n" + b"nan\n" * 8, 13, "no usable window"),
            ("a.csv.gz", b"not gzip", 13, "a.csv.gz"),
            ("a.wav", b"RIFF", 2, "the name does not tell the format"),
        ],
    )
    def test_of_the_recording(
        self,
        press: Versions,
        export: Export,
        *,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        name: str,
        content: bytes,
        code: int,
        told: str,
    ) -> None:
        """One line on standard error, naming file and reason, and an exit code of its own."""
        (tmp_path / name).write_bytes(content)
        assert main(["replay", str(tmp_path / name), "--model", str(export(press))]) == code
        output = capsys.readouterr()
        assert told in output.err
        assert output.err.count("\n") == 1
        assert output.out == ""

    @pytest.mark.parametrize("path", [".", "nowhere.csv"])
    def test_no_such_recording(
        self,
        press: Versions,
        export: Export,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        path: str,
    ) -> None:
        """Missing, or a folder."""
        arguments = ["replay", str(tmp_path / path), "--model", str(export(press)), "--kind", "csv"]
        assert main(arguments) == 13
        assert str(tmp_path / path) in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("name", "setting", "told"),
        [
            ("a.csv", "sped=1", "sped is unknown: a csv source has..(did you mean speed?)"),
            ("a.csv", "speed", "'speed': there is no equals sign..(write it like rate_hz=48000)"),
            ("a.csv", "rate_hz=fast", 'rate_hz is "fast": expected a number of at least 0..'),
            ("a.csv", "rate_hz=nan", "rate_hz is nan: expected a finite..(write an ordinary"),
            ("a.csv", "label_kind=x", 'label_kind is "x": expected "class" or "number"..'),
            ("a.csv", "kind=rig", "kind=rig: it is not given so..(give --kind)"),
            ("a.csv", "tags=x", "tags=x: it is not given so..(give --tag SIGNAL=TAG)"),
            ("a.dat", "first_row=0", "first_row is 0: expected an integer of at least 1..(First"),
            ("a.txt", "engines=1,b", 'engines[1] is "b": expected an integer..'),
        ],
    )
    def test_of_an_option(
        self, capsys: pytest.CaptureFixture[str], name: str, setting: str, told: str
    ) -> None:
        """One line with the option, its value, what is allowed and what to do: exit code 2."""
        assert main(["replay", name, "--model", "m.onnx", "--set", setting]) == 2
        line = capsys.readouterr().err
        problem, remedy = told.split("..")
        assert line.startswith(f"fedmill-agent: --set {problem}")
        assert remedy in line
        assert line.count("\n") == 1

    def test_of_options_together(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A rule of the kind of source names itself."""
        assert main(["replay", "a.mat", "--model", "m.onnx", "--set", "begin=1"]) == 2
        told = "fedmill-agent: --set: a mat source: `begin` 1 is not before `end` 1\n"
        assert capsys.readouterr().err == told

    def test_of_a_column(
        self,
        press: Versions,
        export: Export,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The option that names it is told: it is no signal that is mapped wrongly."""
        path = write_csv(tmp_path / "a.csv", two_classes())
        options = ["--model", str(export(press)), "--set", "run_column=batch"]
        assert main(["replay", str(path), *options]) == 13
        told = capsys.readouterr().err
        assert "run_column is 'batch': the file has no such column" in told
        assert "columns are run, vibration, label (correct `run_column`" in told

    def test_of_the_kind(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A source that reads no file is none to replay."""
        assert main(["replay", "a.csv", "--model", "m.onnx", "--kind", "rig"]) == 2
        assert "choose from" in capsys.readouterr().err

    def test_of_an_installed_package(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A kind of source that cannot be loaded is an error like any other: exit code 10."""
        point = EntryPoint("broken", "nowhere:KIND", sources.GROUP)
        monkeypatch.setattr(sources, "_installed", lambda: [point])
        assert main(["replay", "a.csv", "--model", "m.onnx"]) == 10
        assert "source kind 'broken' (nowhere:KIND) cannot be used" in capsys.readouterr().err

    def test_a_list_and_a_truth_value(self) -> None:
        """Lists are separated by commas, with brackets or without."""
        for text in ("engines=1,2", "engines=[1, 2]"):
            source = file_source("cmapss", Path("a.txt"), [text, "repeat=true", "speed=2"])
            assert source == CmapssOptions(
                name="a.txt", path="a.txt", engines=(1, 2), repeat=True, speed=2.0
            )
        assert file_source("cmapss", Path("a.txt"), ["engines="]).engines == ()

    def test_of_the_model(
        self, press: Versions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Missing, garbage, an archive of weights only, and another tool's model: exit code 14."""
        recording = write_csv(tmp_path / "a.csv", two_classes())
        foreign = {
            "missing.onnx": None,
            "garbage.onnx": b"garbage",
            "template.onnx": press.architecture.template,
            "foreign.onnx": other_tools_model(),
        }
        for name, content in foreign.items():
            if content is not None:
                (tmp_path / name).write_bytes(content)
            assert main(["replay", str(recording), "--model", str(tmp_path / name)]) == 14, name
        told = capsys.readouterr().err.splitlines()
        assert "no such model file" in told[0]
        assert "use a model exported by fedmill" in told[3]

    def test_a_reader_that_has_gone(self, press: Versions, export: Export, tmp_path: Path) -> None:
        """As with ``head``: no traceback, and no error."""
        path = write_csv(tmp_path / "a.csv", two_classes(40, windows=60))
        command = [sys.executable, "-m", "fedmill_agent", "replay", str(path)]
        with subprocess.Popen(
            [*command, "--model", str(export(press))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 0


def other_tools_model() -> bytes:
    """A sound ONNX model that takes three-dimensional input and says nothing of fedmill."""
    shape = ["batch", 1, LENGTH]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()
