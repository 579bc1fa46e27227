# SPDX-License-Identifier: Apache-2.0
"""The walk-throughs of ``docs/extending.md``, run as they stand on the page."""

import math
import os
import re
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

import fedmill_shared.job.model
from fedmill_agent import sources
from fedmill_agent.sources.base import LabelInterval, RunEnded, Samples, SourceOptions
from fedmill_agent.sources.runner import SourceEnded, SourceEvent, SourceRunner
from fedmill_coordinator.aggregation import State, Update, aggregate
from fedmill_coordinator.aggregation.optimisers import OPTIMISERS, Optimiser
from fedmill_coordinator.aggregation.robust import (
    COLUMN_RULES,
    GRAM_RULES,
    ColumnRule,
    GramRule,
    Scene,
)
from fedmill_shared import codec, models, toml
from fedmill_shared.clock import SystemClock
from fedmill_shared.codec.base import BLOCK, Dense, vector_of
from fedmill_shared.codec.frame import FrameHeader, decode_frame, encode_frame
from fedmill_shared.errors import DataError, FrameError, JobError, ModelError
from fedmill_shared.job import (
    Federation,
    Gru,
    Job,
    Labels,
    Learning,
    Mlp,
    Robustness,
    Signal,
    Task,
    Wdcnn,
    Window,
)

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

    def test_every_file_to_touch_exists(self, blocks: dict[str, str], root: Path) -> None:
        """Paths outside the examples are real."""
        words = (root / PAGE).read_text().split("`")
        folders = ("agent/", "shared/", "coordinator/", "tests/")
        new = {*blocks, "agent/src/fedmill_agent/sources/npy/"}
        named = {word for word in words if word.startswith(folders)} - new
        assert len(named) > 20
        assert [path for path in named if not (root / path).exists()] == []

    def test_every_name_to_touch_exists(self, root: Path) -> None:
        """A name behind a file is in that file."""
        told = re.findall(r"`([\w/]+\.py)`,\s+`(\w+)`", (root / PAGE).read_text())
        assert len(told) > 10
        assert [(path, name) for path, name in told if name not in (root / path).read_text()] == []

    def test_what_is_new_is_new(self, blocks: dict[str, str], root: Path) -> None:
        """An example that was taken over is no example any more."""
        made = [path for path, text in blocks.items() if text.startswith("# SPDX")]
        assert [path for path in made if (root / path).exists()] == []


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
        assert sources.kinds(found=found)["npy"] is module.KIND
        raw = tomllib.loads(blocks["press.toml"])["sources"][0]
        options = msgspec.convert(raw, sources.options_type(found=found))
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
        options = dict(fedmill_shared.job.model.__dict__)
        text = blocks["shared/src/fedmill_shared/job/model.py"]
        exec(compile(text, "model.py", "exec"), options)  # noqa: S102  our own page
        family = options["Fcn"]
        monkeypatch.setitem(fedmill_shared.job.__dict__, "Fcn", family)
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

    def test_blocks(self, bf16: codec.Codec) -> None:
        """Any run of blocks has the bits that it has in the whole vector."""
        vector = np.random.default_rng(0).normal(size=3 * BLOCK + 5).astype(np.float32)
        payload = bf16.open(bf16.encode(vector, np.random.default_rng(0), 0), vector.size, 0)
        whole = vector_of(payload)
        for start, stop in ((0, BLOCK), (BLOCK, 3 * BLOCK), (2 * BLOCK, whole.size)):
            out = np.empty(stop - start, np.float32)
            payload.read(start, out)
            assert out.tobytes() == whole[start:stop].tobytes()

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


AGGREGATION = "coordinator/src/fedmill_coordinator/aggregation/"


def some_updates(*rows: tuple[float, float]) -> list[Update]:
    """An update of each row, of the agents 0, 1, 2, ..."""

    def made(number: int, row: tuple[float, float]) -> Update:
        payload = Dense(np.array(row, np.float32))
        return Update(str(number), 5, lambda: payload, math.hypot(*row))

    return [made(number, row) for number, row in enumerate(rows)]


class TestGramRule:
    NEAR = ((1.0, 0.0), (1.0, 0.5), (1.0, -0.5))
    FAR = (-9.0, 0.0)

    @pytest.fixture
    def medoid(self, example: Example) -> GramRule:
        """The rule of inner products on the page."""
        method: GramRule = example(AGGREGATION + "robust/medoid.py").medoid
        return method

    def scene(self, *rows: tuple[float, float], weights: list[float] | None = None) -> Scene:
        """How the rows lie to each other."""
        vectors = np.array(rows)
        counted = np.full(len(rows), 1 / len(rows)) if weights is None else np.array(weights)
        return Scene(vectors @ vectors.T, counted, 0.2)

    def test_literal(self, medoid: GramRule) -> None:
        """The first is 0.5, 0.5 and 10 from the others; every other sum of distances is larger."""
        judged = medoid(self.scene(*self.NEAR, self.FAR))
        assert judged.coefficients.tolist() == [1.0, 0.0, 0.0, 0.0]
        assert judged.scores[0] == pytest.approx(11 / 4)

    def test_equally_near(self, medoid: GramRule) -> None:
        """Of two updates it is the mean; late ones count less and step less."""
        judged = medoid(self.scene((1.0, 0.0), (3.0, 0.0), weights=[0.25, 0.25]))
        assert judged.coefficients.tolist() == [0.25, 0.25]

    def test_who_does_not_count(self, medoid: GramRule) -> None:
        """It is judged, and neither chosen nor asked."""
        judged = medoid(self.scene(*self.NEAR, weights=[0.0, 0.5, 0.5]))
        assert judged.coefficients.tolist() == [0.0, 0.5, 0.5]
        assert judged.scores[0] == pytest.approx(0.5)
        with pytest.raises(ModelError, match="none of 1 updates counts"):
            medoid(self.scene((1.0, 0.0), weights=[0.0]))

    def test_in_a_round(self, medoid: GramRule, monkeypatch: pytest.MonkeyPatch) -> None:
        """Registered, it decides the step and tells who stood apart."""
        monkeypatch.setitem(GRAM_RULES, "medoid", medoid)
        rule = Robustness(rule="medoid", clip=1e6)
        outcomes = [
            aggregate(
                State(2),
                some_updates(*self.NEAR, self.FAR),
                Federation(),
                rule,
                seed=0,
                workers=workers,
            )
            for workers in (1, 3)
        ]
        assert outcomes[0].delta.tolist() == [1.0, 0.0]
        assert outcomes[1].delta.tobytes() == outcomes[0].delta.tobytes()
        verdicts = outcomes[0].report.verdicts
        assert verdicts["0"].score == pytest.approx(11 / 4)
        assert "was left out" not in verdicts["0"].statistic
        assert "was left out" in verdicts["3"].statistic
        assert verdicts["3"].trust < verdicts["0"].trust


class TestColumnRule:
    @pytest.fixture
    def around(self, example: Example) -> ColumnRule:
        """The rule of columns on the page."""
        method: ColumnRule = example(
            AGGREGATION + "robust/mean_around_median.py"
        ).mean_around_median
        return method

    def test_literal(self, around: ColumnRule) -> None:
        """Of five values one is left out: 100, then -8; then, of 0 and 4, the larger."""
        rows = [[1, 1, 0], [2, 2, 1], [3, 3, 2], [4, 4, 3], [100, -8, 4]]
        found = around(np.array(rows, np.float32), np.full(5, 0.2), 0.2)
        assert found.tolist() == [2.5, 2.5, 1.5]
        turned = np.array(rows[::-1], np.float32)
        assert around(turned, np.full(5, 0.2), 0.2).tobytes() == found.tobytes()

    def test_few(self, around: ColumnRule) -> None:
        """None of two is left out, nor of any where none may be wrong."""
        pair = np.array([[1], [9]], np.float32)
        assert around(pair, np.full(2, 0.5), 0.4).tolist() == [5.0]
        several = np.array([[1], [1], [1], [9]], np.float32)
        assert around(several, np.full(4, 0.25), 0.0).tolist() == [3.0]

    def test_weights(self, around: ColumnRule) -> None:
        """What does not count is not looked at; where all are late the step is short."""
        block = np.array([[1], [2], [3], [50]], np.float32)
        assert around(block, np.array([0.1, 0.1, 0.3, 0.0]), 0.0).tolist() == [1.0]
        with pytest.raises(ModelError, match="none of 4 updates counts"):
            around(block, np.zeros(4), 0.2)

    def test_in_a_round(self, around: ColumnRule, monkeypatch: pytest.MonkeyPatch) -> None:
        """Registered, it sees all updates of the round, shortened by nothing."""
        monkeypatch.setitem(COLUMN_RULES, "around", around)
        updates = some_updates((1, 0), (2, 0), (3, 0), (-40, 9))
        rule = Robustness(rule="around", clip=1e6)
        outcome = aggregate(State(2), updates, Federation(), rule, seed=0)
        assert outcome.delta.tolist() == [2.0, 0.0]
        assert outcome.report.verdicts["3"].trust < outcome.report.verdicts["0"].trust


class TestOptimiser:
    @pytest.fixture
    def fixed(self, example: Example) -> Optimiser:
        """The optimiser on the page."""
        method: Optimiser = example(AGGREGATION + "optimisers/fixed.py").fixed
        return method

    def test_step(self, fixed: Optimiser) -> None:
        """The direction of (30, 40), and a length of 2."""
        settings = Federation(server_learning_rate=2.0)
        step, state = fixed(State(2), np.array([30, 40], np.float32), settings)
        assert step.tolist() == pytest.approx([1.2, 1.6])
        assert state == State(2)

    def test_zero(self, fixed: Optimiser) -> None:
        """Nothing is learned, nothing moves."""
        step, _ = fixed(State(2), np.zeros(2, np.float32), Federation())
        assert step.tolist() == [0.0, 0.0]

    def test_in_a_round(self, fixed: Optimiser, monkeypatch: pytest.MonkeyPatch) -> None:
        """Registered, it steps after the mean of two updates."""
        monkeypatch.setitem(OPTIMISERS, "fedavg", fixed)
        updates = some_updates((0, 8), (0, 8))
        outcome = aggregate(State(2), updates, Federation(), Robustness(), seed=0)
        assert outcome.delta.tolist() == pytest.approx([0.0, 1.0])
        assert outcome.report.norm == pytest.approx(1.0)


class TestLocalMethod:
    LEARNING = "shared/src/fedmill_shared/learning/"

    @pytest.fixture
    def job(self) -> Job:
        """A small network, and one window in each step of plain descent."""
        return Job(
            job=Task(name="press"),
            signals=[Signal(name="force")],
            window=Window(length=8),
            labels=Labels(classes=["good", "burr"]),
            model=Mlp(hidden=[4, 4]),
            learning=Learning(optimiser="sgd", momentum=0.0, learning_rate=1.0, batch_size=1),
        )

    def test_loss(self, example: Example) -> None:
        """A tenth of each label is everyone's: 0.95 log 4 + 0.05 log(4/3) for shares 1/4, 3/4."""
        from torch import tensor

        smoothed = example(self.LEARNING + "smoothed.py").smoothed
        outputs, targets = tensor([[0.0, math.log(3)]]), tensor([0])
        wanted = 0.95 * math.log(4) + 0.05 * math.log(4 / 3)
        assert smoothed(0.1)(outputs, targets).item() == pytest.approx(wanted)
        assert smoothed(0.0)(outputs, targets).item() == pytest.approx(math.log(4))

    def test_amendment(self, example: Example) -> None:
        """A gradient (30, 40) becomes (3, 4); a shorter one, and none, stay."""
        from torch import tensor, zeros

        amend = example(self.LEARNING + "shortened.py").shortened(5.0)
        for told, wanted in (
            ([30.0, 40.0], [3.0, 4.0]),
            ([3.0, 0.0], [3.0, 0.0]),
            ([0.0] * 2,) * 2,
        ):
            gradient = tensor(told)
            amend(zeros(2), gradient)
            assert gradient.tolist() == pytest.approx(wanted)

    def test_in_a_round(self, example: Example, job: Job) -> None:
        """No step is longer than the bound times the learning rate, and without it they are."""
        from fedmill_shared.learning.descent import descend, prepare
        from fedmill_shared.learning.local import make_examples
        from fedmill_shared.models.flat import FlatModel

        inputs = np.random.default_rng(0).normal(size=(6, 1, 8)).astype(np.float32)
        examples = make_examples(job, inputs, ["good", "burr"] * 3, np.full(6, np.nan), ["day"] * 6)
        amendment = example(self.LEARNING + "shortened.py").shortened(0.01)
        lengths = []
        for amendments in ((amendment,), ()):
            model = FlatModel(models.build(job, 3))
            before = model.vector.copy()
            work = prepare(model, job, examples, round_=1, seed=5)
            assert descend(work, amendments)[1] == 6
            lengths.append(float(np.linalg.norm(model.vector - before)))
        assert 0 < lengths[0] <= 6 * 0.01 * (1 + 1e-5)
        assert lengths[1] > lengths[0]
