# SPDX-License-Identifier: Apache-2.0
"""Job files: rules between fields, canonical form, JSON Schema."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmill_shared.errors import FedmillError, JobError
from fedmill_shared.job import Gru, Job, Mlp, Wdcnn
from fedmill_shared.job_check import (
    canonical,
    check,
    decode_job,
    job_from_canonical,
    json_schema,
    load_job,
)
from fedmill_shared.job_reference import SMALLEST_JOB
from fedmill_shared.models import build

CLASSES = '[labels]\nclasses = ["good", "bad"]\n'
TWO = '[job]\nname = "rig"\n[[signals]]\nname = "a"\n[[signals]]\nname = "b"\n'
REGRESSION = '[job]\nname = "life"\ntask = "regression"\n[[signals]]\nname = "a"\n'

BROKEN = """
TWO
[[signals]]
name = "a"
CLASSES
=> 8: signals[2].name is "a": signals[0] has the same name
=> (rename one of the two)

TWO
unit = "Degc"
CLASSES
=> 7: signals[1].unit is "Degc": there is no such unit
=> (did you mean degC? docs/job-reference.md lists the units; "1" is for everything without
=> one)

TWO
CLASSES
unit = "wishes"
=> 9: labels.unit is "wishes": there is no such unit
=> (docs/job-reference.md lists the units; "1" is for everything without one)

TWO
role = "regime"
CLASSES
=> 7: signals[1].role is "regime": window.normalise is "global" and would ignore the
=> operating condition
=> (write normalise = "regime" below [window], or make the signal an input)

TWO
CLASSES
[window]
normalise = "regime"
=> 10: window.normalise is "regime": no signal tells the operating condition
=> (give the signals that do role = "regime", or write normalise = "global")

TWO
=> 1: labels.classes is []: a classification needs at least two classes
=> (list them, or write task = "regression")

TWO
[labels]
classes = ["one"]
=> 8: labels.classes is ["one"]: a classification needs at least two classes
=> (list them, or write task = "regression")

TWO
[labels]
classes = [
"a",
"b",
"a"]
=> 11: labels.classes[2] is "a": the class is listed twice
=> (remove one of them)

TWO
[labels]
classes = ["a", " "]
=> 8: labels.classes[1] is " ": a class needs a name
=> (write the labels' own text)

TWO
CLASSES
cap = 125.0
=> 9: labels.cap is 125.0: only the target of a regression can be capped
=> (remove it)

TWO
CLASSES
[learning]
loss = "huber"
=> 10: learning.loss is "huber": it does not measure a classification
=> (write "auto")

TWO
CLASSES
[model]
architecture = "wdcnn"
kernel = 64
stride = 64
[window]
length = 63
=> 11: model.kernel is 64: it does not fit a window of 63 samples
=> (shorten the kernel or lengthen the window)

TWO
CLASSES
[federation]
minimum = 3
goal = 2
=> 11: federation.goal is 2: a round would close before its minimum of 3 updates
=> (write 0 for every agent online, or at least the minimum)

TWO
CLASSES
[federation]
deadline_seconds = 60.0
earliest_seconds = 61.0
=> 11: federation.earliest_seconds is 61.0: it lies behind deadline_seconds = 60.0
=> (let it be shorter than the deadline)

TWO
CLASSES
[federation]
select = 'line = "A"'
=> 10: federation.select: selector "line = \\"A\\"", character 6: "=" means nothing here
=> (write == to compare)

TWO
CLASSES
[federation]
over_selection = 1.5
=> 10: federation.over_selection is 1.5: it multiplies federation.goal, which is 0
=> (give a goal, or remove it)

TWO
CLASSES
[federation]
goal = 4
over_selection = 0.5
=> 11: federation.over_selection is 0.5: fewer agents would be asked than the goal needs
=> (write 1.3 or so, or 0 to ask all)

TWO
CLASSES
[evaluation]
validation = 0.3
test = 0.7
=> 11: evaluation.test is 0.7: with validation = 0.3 nothing is left to train on
=> (let validation and test together stay below 1)

REGRESSION
CLASSES
=> 7: labels.classes is ["good", "bad"]: a regression has no classes
=> (remove them)

REGRESSION
[learning]
loss = "cross_entropy"
=> 7: learning.loss is "cross_entropy": it does not measure a regression
=> (write "auto", "mse" or "huber")

REGRESSION
[learning]
known_classes_only = true
=> 7: learning.known_classes_only is true: a regression has no classes
=> (remove it)

[job]
name = "two"
[[signals]]
name = "a"
range = [1.0]
CLASSES
=> 5: signals[0].range is [1.0]: one number is no range
=> (write [smallest, largest] in 1, or remove it)

[job]
name = "two"
[[signals]]
name = "a"
unit = "degC"
range = [150.0, -40.0]
CLASSES
=> 6: signals[0].range is [150.0, -40.0]: the first number is the smallest plausible value,
=> the second the largest (write [smallest, largest] in degC, or remove it)

[job]
name = "two"
[[signals]]
name = "a"
rate_hz = 10.0
flat_seconds = 5.0
CLASSES
[window]
length = 20
=> 6: signals[0].flat_seconds is 5.0: each window is looked at by itself, and has 20 samples
=> (write less, or make window.length longer)

[job]
name = "two"
[[signals]]
name = "a"
rate_hz = 10.0
flat_seconds = 0.05
CLASSES
=> 6: signals[0].flat_seconds is 0.05: samples are 0.1 s apart
=> (write a multiple of that, or 0 for never)

[job]
name = "two"
[[signals]]
name = "a"
flat_seconds = 5.0
CLASSES
[window]
pad = "edge"
=> 5: signals[0].flat_seconds is 5.0: with window.pad = "edge" every run begins with values that
=> are repeated (write pad = "none", or remove it)

TWO
CLASSES
[window]
length = 8
[cleaning]
outliers = "hampel"
reach = 8
=> 13: cleaning.reach is 8: a window has 8 samples (write fewer neighbours than that)

TWO
CLASSES
[cleaning]
sigmas = 4.0
=> 10: cleaning.sigmas is 4.0: it is for outliers = "hampel", which is "none"
=> (write outliers = "hampel" below [cleaning], or remove it)

REGRESSION
role = "regime"
[window]
normalise = "regime"
=> 6: signals[0].role is "regime": no signal of the job feeds the network
=> (give at least one signal role = "input")
"""

GOOD = [
    TWO + CLASSES,
    TWO + CLASSES + 'unit = "1"\n[learning]\nloss = "cross_entropy"\nknown_classes_only = true',
    TWO + 'role = "regime"\n[window]\nnormalise = "regime"\n' + CLASSES,
    TWO + CLASSES + "[federation]\nminimum = 2\ngoal = 2",
    TWO + CLASSES + "[federation]\ngoal = 4\nover_selection = 1.0",
    TWO + CLASSES + "[federation]\nearliest_seconds = 60.0\ndeadline_seconds = 60.0",
    TWO + CLASSES + '[federation]\nselect = \'line == "A" and "press" in tags\'',
    TWO + CLASSES + "[federation]\npatience = 0\nmax_staleness = 0\nmin_examples = 9",
    TWO + CLASSES + "[evaluation]\nvalidation = 0.0\ntest = 0.9",
    TWO + CLASSES + '[federation]\nrule = "fedsgd"\n[learning]\nepochs = 5',
    TWO + CLASSES + "[window]\nlength = 8\nstride = 500",
    TWO + CLASSES + '[model]\narchitecture = "wdcnn"\nnorm = "none"',
    TWO
    + CLASSES
    + '[model]\narchitecture = "wdcnn"\nkernel = 64\nstride = 64\n[window]\nlength = 64',
    TWO + CLASSES + '[model]\narchitecture = "wdcnn"\n[window]\nlength = 16',
    TWO + CLASSES + '[cleaning]\noutliers = "hampel"\nsigmas = 4.0\nmissing = "drop"',
    REGRESSION,
    REGRESSION + '[labels]\nunit = "cycle"\ncap = 125.0\n[learning]\nloss = "huber"',
]


def broken_cases() -> list[tuple[str, str]]:
    """The blocks of ``BROKEN``: a text, and what is said about it."""
    cases = []
    for block in BROKEN.strip().split("\n\n"):
        lines = block.split("\n")
        said = " ".join(line[3:] for line in lines if line.startswith("=>"))
        text = "".join(f"{line}\n" for line in lines if not line.startswith("=>"))
        for name, start in (("TWO", TWO), ("REGRESSION", REGRESSION), ("CLASSES", CLASSES)):
            text = text.replace(f"{name}\n", start)
        cases.append((text, said))
    return cases


def job(text: str) -> Job:
    """The job in ``text``."""
    return decode_job(text, "rig.toml")


def changed(good: Job, **sections: dict[str, Any]) -> Job:
    """``good`` with other values in some sections, not checked."""
    plain = msgspec.to_builtins(good)
    return msgspec.convert({**plain, **{k: {**plain[k], **v} for k, v in sections.items()}}, Job)


def passes(attempt: Callable[[], object]) -> bool:
    """Whether ``attempt`` ends without an error of ours."""
    try:
        attempt()
    except FedmillError:
        return False
    return True


class TestLoad:
    """From a file to a job."""

    def test_smallest_job(self, tmp_path: Path) -> None:
        """About 15 lines are enough; everything else has a default."""
        path = tmp_path / "bearing.toml"
        path.write_text(SMALLEST_JOB)
        loaded = load_job(path)
        assert (loaded.name, loaded.outputs, loaded.inputs, loaded.stride) == (
            "bearing-faults",
            4,
            [0],
            2048,
        )
        assert isinstance(loaded.model, Wdcnn)

    def test_missing_file(self, tmp_path: Path) -> None:
        """A missing file is a job error."""
        with pytest.raises(JobError, match="cannot be read: No such file or directory"):
            load_job(tmp_path / "none.toml")

    def test_type_errors_name_the_line(self) -> None:
        """Fields that do not fit their type are met before the rules between fields."""
        with pytest.raises(JobError, match=r'rig\.toml:8: window\.length is "1k": expected an int'):
            job(TWO + '[window]\nlength = "1k"')

    def test_roles(self) -> None:
        """Inputs, regimes and outputs are told apart."""
        regime = job(TWO + 'role = "regime"\n[window]\nnormalise = "regime"\n' + CLASSES)
        assert (regime.inputs, regime.regimes, regime.outputs) == ([0], [1], 2)
        assert job(REGRESSION).outputs == 1

    @pytest.mark.parametrize("name", ["a\\n", "A", "", "x" * 33, "../x", "ü"])
    def test_names_are_folders(self, name: str) -> None:
        """Names that do not do for a folder are refused, a trailing line break too."""
        with pytest.raises(JobError, match=r"rig\.toml:2: job\.name is"):
            job(TWO.replace('"rig"', f'"{name}"') + CLASSES)


class TestRules:
    """What the fields must be together."""

    @pytest.mark.parametrize("text", GOOD)
    def test_good(self, text: str) -> None:
        """Sensible combinations pass, with and without their text."""
        check(job(text))

    @pytest.mark.parametrize(("text", "expected"), broken_cases())
    def test_broken(self, text: str, expected: str) -> None:
        """Line, field, value, reason and remedy."""
        with pytest.raises(JobError) as caught:
            job(text)
        assert str(caught.value) == f"rig.toml:{expected}"

    def test_without_text(self) -> None:
        """Without a text the job's name stands for the line."""
        with pytest.raises(
            JobError, match=r'job "rig": federation\.goal is 1: a round would close'
        ):
            check(changed(job(TWO + CLASSES), federation={"goal": 1}))

    @pytest.mark.parametrize(
        ("length", "kernel", "stride"),
        [(16, 64, 16), (15, 64, 16), (64, 64, 64), (63, 64, 64), (1, 3, 1), (1, 2, 1), (1, 1, 1)],
    )
    def test_kernel_rule_is_the_networks_own(self, length: int, kernel: int, stride: int) -> None:
        """A kernel passes exactly where the network can be built."""
        model = {"architecture": "wdcnn", "channels": [2, 2], "kernel": kernel, "stride": stride}
        candidate = changed(job(SMALLEST_JOB), window={"length": length}, model=model)
        assert passes(lambda: check(candidate)) == passes(lambda: build(candidate, 0))


class TestCanonical:
    """The bytes that everybody hashes."""

    def test_writing_style_does_not_matter(self) -> None:
        """Comments, order, defaults written out, and 2 for 2.0 give the same bytes."""
        plain = job(SMALLEST_JOB)
        styled = job(
            '# a job\nmodel = {kernel = 64, architecture = "wdcnn"}\nsignals = [{rate_hz = 12000, '
            'unit = "g", name = "vibration"}]\n[labels]\ncap = 0\nclasses = ["healthy", '
            '"inner race", "outer race", "ball"]\n[window]\nlength = 2048\n'
            '[job]\nname = "bearing-faults"\ntask = "classification"'
        )
        assert canonical(styled) == canonical(plain)

    def test_sorted_and_complete(self) -> None:
        """Names are sorted and defaults written out, so that no version's order matters."""
        text = canonical(job(REGRESSION))
        assert (
            text
            == json.dumps(
                json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False
            ).encode()
        )
        assert b'"rule":"fedavg"' in text

    @pytest.mark.parametrize("text", [SMALLEST_JOB, *GOOD])
    def test_round_trip(self, text: str) -> None:
        """What was encoded comes back as the same job."""
        assert job_from_canonical(canonical(job(text))) == job(text)

    @given(
        rates=st.floats(1e-6, 1e9),
        model=st.one_of(
            st.builds(Mlp, hidden=st.lists(st.integers(1, 4096), min_size=2, max_size=2)),
            st.builds(Gru, hidden=st.integers(1, 1024), layers=st.integers(1, 4)),
        ),
        classes=st.lists(st.text(min_size=1).filter(str.strip), min_size=2, unique=True),
    )
    def test_any_job(self, rates: float, model: Mlp | Gru, classes: list[str]) -> None:
        """Any floats and any text survive bit for bit."""
        good = job(SMALLEST_JOB)
        candidate = msgspec.structs.replace(
            good,
            model=model,
            labels=msgspec.structs.replace(good.labels, classes=classes),
            signals=[msgspec.structs.replace(good.signals[0], rate_hz=rates)],
        )
        data = canonical(candidate)
        assert job_from_canonical(data) == candidate
        assert canonical(job_from_canonical(data)) == data

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "cannot be decoded: Input data was truncated"),
            (b"\xff", "cannot be decoded"),
            (b"[" * 100_000, "cannot be decoded"),
            (b'{"job":{"name":"\xff"}}', "cannot be decoded"),
            (b'{"extra":1}', r"unknown field `extra` \(install the same version of fedmill"),
            (b" " * ((1 << 20) + 1), "is 1048577 bytes, at most 1048576 are read"),
            (b'{"job":{"name":"a"},"signals":[{"name":"v"}]}', 'job "a": labels.classes is'),
        ],
    )
    def test_foreign_bytes(self, data: bytes, reason: str) -> None:
        """Bytes of somebody else are refused before they do harm."""
        with pytest.raises(JobError, match=reason):
            job_from_canonical(data)

    @given(data=st.binary(max_size=60))
    def test_any_bytes(self, data: bytes) -> None:
        """Arbitrary bytes raise nothing but JobError."""
        with pytest.raises(JobError):
            job_from_canonical(data)

    @given(at=st.integers(0, 600), byte=st.integers(0, 255))
    def test_damaged_bytes(self, at: int, byte: int) -> None:
        """One damaged byte gives another job or a JobError."""
        data = bytearray(canonical(job(SMALLEST_JOB)))
        data[at % len(data)] = byte
        with contextlib.suppress(JobError):
            assert isinstance(job_from_canonical(bytes(data)), Job)


class TestJsonSchema:
    """What editors complete from."""

    def test_names_every_section(self) -> None:
        """All sections and their fields are described."""
        schema = json_schema()
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        definitions: Any = schema["$defs"]
        assert set(definitions["Job"]["properties"]) == set(Job.__struct_fields__)
        assert definitions["Job"]["required"] == ["job", "signals"]
        assert definitions["Window"]["properties"]["length"]["maximum"] == 1_048_576

    def test_is_json(self) -> None:
        """It can be written to a file."""
        assert json.loads(json.dumps(json_schema())) == json_schema()
