# SPDX-License-Identifier: Apache-2.0
"""The walk-throughs of ``docs/extending.md``, run as they stand on the page."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import pytest

import fedmill_shared.job
from fedmill_agent import sources
from fedmill_agent.sources.base import LabelInterval, RunEnded, Samples, SourceOptions
from fedmill_agent.sources.runner import SourceEnded, SourceEvent, SourceRunner
from fedmill_coordinator.aggregation import Report, State, Update
from fedmill_shared import codec, models, toml
from fedmill_shared.clock import SystemClock
from fedmill_shared.codec.frame import FrameHeader, decode_frame, encode_frame
from fedmill_shared.errors import DataError, FrameError, JobError, ModelError
from fedmill_shared.job import Federation, Gru, Job, Mlp, Wdcnn

PAGE = "docs/extending.md"
START = 1_704_067_200_000_000_000

Example = Callable[[str], ModuleType]


@pytest.fixture(scope="session")
def blocks(files: Callable[[str], dict[str, str]]) -> dict[str, str]:
    """The files on the page."""
    return files(PAGE)


@pytest.fixture
def example(blocks: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Example:
    """Imports one of the files on the page under the name that its path gives it."""

    def load(path: str) -> ModuleType:
        module = ModuleType(path.partition("src/")[2].removesuffix(".py").replace("/", "."))
        if not module.__name__:
            module.__name__ = Path(path).stem
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(blocks[path], path, "exec"), module.__dict__)  # noqa: S102  our own page
        return module

    return load


class TestPage:
    def test_examples_pass_the_linter(
        self, blocks: dict[str, str], tmp_path: Path, root: Path
    ) -> None:
        """What stands on the page could be committed as it is."""
        for path, text in blocks.items():
            if path.endswith(".py") and text.startswith("# SPDX"):
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(text)
        ruff = [sys.executable, "-m", "ruff"]
        config = ["--config", str(root / "pyproject.toml"), "--no-cache", str(tmp_path)]
        for command in (["check", "--ignore", "INP001"], ["format", "--check"]):
            done = subprocess.run([*ruff, *command, *config], capture_output=True, check=False)
            assert done.returncode == 0, done.stdout.decode()

    def test_every_file_to_touch_exists(self, root: Path) -> None:
        """Paths outside the examples are real."""
        text = (root / PAGE).read_text()
        named = {
            word for word in text.split("`") if word.startswith(("agent/", "shared/", "tests"))
        }
        named |= {word for word in text.split("`") if word.startswith("coordinator/")}
        new = ("/npy/", "/fcn.py", "/bf16.py", "/equal.py")
        missing = [p for p in named if not (root / p).exists() and not p.endswith(new)]
        assert missing == []


class TestSource:
    @pytest.fixture
    def recording(self, tmp_path: Path) -> Path:
        """Two rows of 10,000 samples."""
        path = tmp_path / "night.npy"
        np.save(path, np.arange(20_000, dtype=np.float32).reshape(2, -1))
        return path

    def test_entry_point(self, example: Example, blocks: dict[str, str]) -> None:
        """The project file on the page makes the kind known, and its options are decoded."""
        module = example("fedmill_npy.py")
        named = tomllib.loads(blocks["pyproject.toml"])["project"]["entry-points"][sources.GROUP]
        found = [EntryPoint(name, value, sources.GROUP) for name, value in named.items()]
        assert sources.kinds(found)["npy"] is module.KIND
        raw = tomllib.loads(blocks["press.toml"])["sources"][0]
        options = msgspec.convert(raw, sources.options_type(found))
        assert isinstance(options, module.NpyOptions)

    def test_runner(self, example: Example, recording: Path) -> None:
        """The runner hands on all samples, the label, the end, and its own end."""
        module, heard = example("fedmill_npy.py"), []
        options: SourceOptions = module.NpyOptions(name="x", path=str(recording), label="good")
        runner = SourceRunner(
            module.KIND,
            options,
            ["row1"],
            1000.0,
            sink=lambda event: heard.append(event) or True,
            clock=SystemClock(),
        )
        runner.start()
        runner.join(30)
        assert heard[-1] == SourceEnded("x")
        events = [entry.event for entry in heard if isinstance(entry, SourceEvent)]
        values = np.concatenate([e.values for e in events if isinstance(e, Samples)], axis=1)
        assert np.array_equal(values, np.arange(10_000.0, 20_000.0)[None])
        assert events[-2:] == [
            LabelInterval("night", START, START + 9_999_000_000, text="good"),
            RunEnded("night"),
        ]

    @pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00\xff\xff"])
    def test_foreign_files(self, example: Example, tmp_path: Path, content: bytes) -> None:
        """A file of another format is an error with a remedy."""
        module, path = example("fedmill_npy.py"), tmp_path / "x.npy"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npy: .* \(save it with numpy\.save\)"):
            list(module.read(module.NpyOptions(name="x", path=str(path)), ["row0"], 1.0))

    def test_installed_package(
        self, blocks: dict[str, str], recording: Path, tmp_path: Path
    ) -> None:
        """Installed beside the agent, the check command reads it; no file of ours is touched."""
        info = tmp_path / "fedmill_npy-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fedmill-npy\nVersion: 0.1.0\n")
        points = tomllib.loads(blocks["pyproject.toml"])["project"]["entry-points"][sources.GROUP]
        lines = [f"[{sources.GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        for name in ("fedmill_npy.py", "press.toml"):
            (tmp_path / name).write_text(blocks[name])
        done = subprocess.run(
            [sys.executable, "-m", "fedmill_agent", "check", "press.toml", "--offline"],
            cwd=recording.parent,
            env=dict(os.environ, PYTHONPATH=str(tmp_path)),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "source night-shift: 10000 samples read, rate unknown" in done.stdout


class TestModelFamily:
    @pytest.fixture
    def job(self, example: Example, blocks: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Job:
        """The job on the page, decoded with the new family among the known ones."""
        place = fedmill_shared.job.__dict__
        options = dict(place)
        text = blocks["shared/src/fedmill_shared/job.py"]
        exec(compile(text, "job.py", "exec"), options)  # noqa: S102  our own page
        family = options["Fcn"]
        monkeypatch.setitem(place, "Fcn", family)
        example("shared/src/fedmill_shared/models/fcn.py")
        monkeypatch.setitem(models._FAMILIES, "Fcn", "fedmill_shared.models.fcn")

        class Extended(Job, frozen=True, kw_only=True, forbid_unknown_fields=True):
            model: Mlp | Wdcnn | Gru | family

        job = toml.decode(blocks["job.toml"], Extended, path="job.toml", error=JobError)
        assert job.model == family(channels=8)
        return job

    def test_export(self, job: Job) -> None:
        """The template computes what torch computes, so nothing else knows of the family."""
        from fedmill_coordinator.registry.template import export_template
        from fedmill_shared.models.flat import FlatModel
        from fedmill_shared.onnx_session import OnnxSession

        module = models.build(job, 3)
        template, model = export_template(job, module), FlatModel(module)
        assert {tensor.role for tensor in model.manifest.tensors} == {"backbone", "head", "buffer"}
        windows = np.random.default_rng(0).normal(size=(5, 1, 64)).astype(np.float32)
        outputs = OnnxSession.from_template(template, model.vector).run(windows)
        np.testing.assert_allclose(outputs, model.predict(windows), atol=1e-5)

    def test_training(self, job: Job) -> None:
        """One round lowers its loss, and the same seed gives the same weights."""
        from fedmill_shared.learning import local
        from fedmill_shared.models.flat import FlatModel

        rng = np.random.default_rng(1)
        quiet, loud = 0.1 * rng.normal(size=(40, 1, 64)), rng.normal(size=(40, 1, 64))
        inputs = np.concatenate([quiet, loud]).astype(np.float32)
        texts, runs = ["good"] * 40 + ["burr"] * 40, ["day"] * 80
        examples = local.make_examples(job, inputs, texts, np.full(80, np.nan), runs)
        model, twin = FlatModel(models.build(job, 3)), FlatModel(models.build(job, 3))
        first = local.train(model, job, examples, round_=1, seed=5)
        assert np.array_equal(first.delta, local.train(twin, job, examples, round_=1, seed=5).delta)
        losses = [local.train(model, job, examples, round_=1, seed=s).loss for s in range(50)]
        assert losses[-1] < 0.5 * first.loss


class TestCodec:
    @pytest.fixture
    def bf16(self, example: Example, monkeypatch: pytest.MonkeyPatch) -> codec.Codec:
        """The codec on the page, registered."""
        method: codec.Codec = example("shared/src/fedmill_shared/codec/bf16.py").BF16
        assert method.name not in codec.CODECS
        assert method.number not in codec._NUMBERS
        monkeypatch.setitem(codec.CODECS, method.name, method)
        monkeypatch.setitem(codec._NUMBERS, method.number, method)
        return method

    def frame(self, method: codec.Codec, vector: np.ndarray) -> bytes:
        """A delta in its frame."""
        header = FrameHeader(content="delta", round=1, schema="0" * 16, base="1" * 16)
        return encode_frame(method, vector, header, np.random.default_rng(0))

    def test_round_trip(self, bf16: codec.Codec) -> None:
        """Half the bytes, and no element is off by more than 1 in 128."""
        vector = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
        frame = self.frame(bf16, vector)
        header, decoded = decode_frame(frame, elements=10_000)
        assert header.codec == "bf16"
        assert (np.abs(decoded - vector) <= np.abs(vector) / 128).all()
        assert len(frame) < 20_200

    def test_largest_numbers_stay_finite(self, bf16: codec.Codec) -> None:
        """Nothing that may be sent decodes to infinity."""
        largest = np.finfo(np.float32).max
        vector = np.array([largest, -largest, 0.0, 1.0], np.float32)
        _, decoded = decode_frame(self.frame(bf16, vector), elements=4)
        assert np.isfinite(decoded).all()
        assert decoded[2:].tolist() == [0.0, 1.0]

    def test_foreign_sections(self, bf16: codec.Codec) -> None:
        """Infinities and wrong lengths are refused."""
        infinity = codec.base.Section("values", b"\x80\x7f")
        with pytest.raises(FrameError, match="finite"):
            bf16.decode([infinity], 1, 0)
        with pytest.raises(FrameError, match="2 bytes"):
            bf16.decode([infinity], 2, 0)


class TestRule:
    def test_step(self, example: Example) -> None:
        """Deltas 0 of one window and 2 of 99 windows: the mean is 1, the report counts all."""
        rule = example("coordinator/src/fedmill_coordinator/aggregation/equal.py").EQUAL
        updates = [
            Update("a", 1, np.array([0.0], np.float32)),
            Update("b", 99, np.array([2.0], np.float32)),
        ]
        delta, state, report = rule.step(rule.init(1), iter(updates), Federation())
        assert (delta.tolist(), state) == ([1.0], State(1))
        assert report == Report(2, 100, {"a": 0.0, "b": 2.0}, 1.0)

    def test_refusals_are_those_of_every_rule(self, example: Example) -> None:
        """No windows at all, and a delta that is not finite."""
        rule = example("coordinator/src/fedmill_coordinator/aggregation/equal.py").EQUAL
        for update in (
            Update("a", 0, np.array([1.0], np.float32)),
            Update("a", 1, np.array([np.nan], np.float32)),
        ):
            with pytest.raises(ModelError):
                rule.step(rule.init(1), [update], Federation())
