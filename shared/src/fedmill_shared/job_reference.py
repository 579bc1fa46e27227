# SPDX-License-Identifier: Apache-2.0
"""Reference pages written from the types: the job file, and the exit codes.

``python -m fedmill_shared.job_reference docs`` writes both into the folder ``docs``.
"""

import inspect as python
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from msgspec import NODEFAULT, inspect

from fedmill_shared import errors
from fedmill_shared.errors import FedmillError, UsageError
from fedmill_shared.files import write_atomic
from fedmill_shared.job import Job
from fedmill_shared.signals.units import UNITS
from fedmill_shared.toml.faults import section_of
from fedmill_shared.toml.place import structs
from fedmill_shared.toml.words import bare, description, show, words

SMALLEST_JOB = """\
[job]
name = "bearing-faults"

[[signals]]
name = "vibration"
unit = "g"
rate_hz = 12000.0

[window]
length = 2048

[labels]
classes = ["healthy", "inner race", "outer race", "ball"]

[model]
architecture = "wdcnn"
"""

_INTRODUCTION = f"""\
# Job file

One TOML file declares one learning task. This page is generated from the types that decode it
(`python -m fedmill_shared.job_reference docs`); every error names the line, the field, its value
and what is allowed there. A field with a default can be left out.

The smallest useful job:

```toml
{SMALLEST_JOB}```

Rules between fields:

- Signals have different names; at least one is an input.
- `window.normalise = "regime"` and signals with `role = "regime"` need each other.
- A classification lists at least two classes. A regression lists none; only it can have a `cap`.
- `task = "reconstruction"` and `architecture = "autoencoder"` or `"pca"` need each other. Such a
  job has no `[labels]`, nothing that is about classes, and its signals are standardised; a
  `bottleneck` is narrower than the model's input. `[monitoring]` is for such a job.
- `architecture = "pca"` is exact, and has other defaults for that: `federation.rounds = 1` and
  `max_staleness = 0`; `uplink` and `downlink` `"fp32"`; `robustness.clip` and `claim` 1e6 and
  `quarantine_rounds = 0`. It goes with `fedavg` and its rate of 1, with robust rules that choose
  among updates, and with nothing that trains; it has at most 512 inputs.
- `labels.from = "forecast"` or `"event"` is for a regression. What is foretold is a signal of the
  job in a unit of its kind; a remaining life is a time. See [labels.md](labels.md).
- `learning.loss` fits the task: `cross_entropy`, `logit_adjusted` and `focal` for classes, `mse`
  and `huber` for numbers.
- `federation.goal` is 0 or at least `federation.minimum`.
- `federation.cluster_by` and `federation.clusters` need each other; a job does not `start` from
  itself.
- `evaluation.validation` and `evaluation.test` together stay below 1.
- `window.trigger` names a signal, and goes with neither `stride` nor `pad`; `window.order` names
  one with the unit of a speed of rotation.
- `[features]` are for an `mlp`, an `autoencoder` or `pca`; every band holds at least one frequency
  of the window, and the model gets at most 256 rows.
- The first kernel of a `wdcnn` fits the window; `norm = "batch"` goes with
  `learning.personal = "norm"`.
- Sparse codecs (`-N`: one of N) need `compression.error_feedback`; `median` and `trimmed_mean` need
  a dense uplink.
- `scaffold` is for at most 50 agents, with `minimum` at least 0.8 times `goal`, and for `sgd`.
- `serving.candidates = "best"` needs validation windows to choose by.
- An alarm of a classification lists classes; any other says `above` or `below`, and `clear` lies on
  the safe side of it. Alarms have different names. See [predictions.md](predictions.md).
- `drift.warn_run_length` is less than `drift.run_length`; a reference is at least two blocks.
  `recalibrate` needs a standardisation and the watched `input`, `personal` a model of the agent's
  own (`learning.ditto`, or `serving.candidates = "best"`), and `residual` a truth that can come.
- `[feedback]` moves the common model by labels: it goes with neither a reconstruction,
  `learning.personal` nor `serving.candidates = "best"`; `prototypes` are for classes.
- `rollout.rings` are `"canary"`, as the first alone, shares such as `"10 %"` that go up, selectors,
  and at the end `"fleet"`; other rings than `["fleet"]` need `release` = `"better"`, `"last"` or
  `"manual"`. A soak needs two rings, and `"better"` windows held out by `evaluation.test`.
"""

_EXIT_CODES = """\
# Exit codes

Every command ends with one of these; the message on standard error names the remedy. This page is
generated from `fedmill_shared.errors` (`python -m fedmill_shared.job_reference docs`).

`fedmill-agent status` also ends with 3: the agent has run here, and is not running now.

| Code | Error | When |
|---|---|---|
| 0 | | Everything asked for was done. |
"""


def markdown() -> str:
    """The page about the job file: one section for each of its tables, and the units."""
    top = inspect.type_info(Job)
    sections = [
        line
        for struct in structs(top)
        for section in struct.fields
        for inner in structs(section.type)
        for line in _section(section, inner)
    ]
    return "\n".join([_INTRODUCTION, *sections, *_units()])


def exit_codes_markdown() -> str:
    """The page about exit codes: one row for each class of error."""
    classes = [
        member
        for member in vars(errors).values()
        if isinstance(member, type) and issubclass(member, FedmillError)
    ]
    rows = (
        f"| {kind.exit_code} | `{kind.__name__}` | {python.getdoc(kind)} |"
        for kind in sorted(classes, key=lambda kind: kind.exit_code)
    )
    return "".join([_EXIT_CODES, *(f"{row}\n" for row in rows)])


def write(folder: Path) -> None:
    """Write both pages into ``folder``.

    Raises:
        StoreError: the folder is missing or not writable.
    """
    write_atomic(folder / "job-reference.md", markdown().encode())
    write_atomic(folder / "exit-codes.md", exit_codes_markdown().encode())


def main(arguments: list[str]) -> int:
    """Write both pages into the one folder that is named; the exit code."""
    try:
        if len(arguments) != 1:
            raise UsageError("give exactly one folder", remedy="job_reference docs")
        write(Path(arguments[0]))
    except FedmillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _section(section: inspect.Field, struct: inspect.StructType) -> Iterator[str]:
    is_list = isinstance(bare(section.type), inspect.CollectionType)
    header = section_of((section.encode_name, 0)[: 1 + is_list])
    tag = f' {struct.tag_field} = "{struct.tag}"' if struct.tag_field is not None else ""
    yield f"## `{header}`{tag and f' with `{tag.strip()}`'}\n"
    yield f"{python.getdoc(struct.cls)}{' Required.' if section.required else ''}\n"
    yield "| Field | Accepts | Default | Meaning |"
    yield "|---|---|---|---|"
    for field in struct.fields:
        default = "required" if field.required else f"`{show(_default(field))}`"
        yield (
            f"| `{field.encode_name}` | {_cell(words(field.type))} | {default} "
            f"| {_cell(description(field.type))} |"
        )
    yield ""


def _default(field: inspect.Field) -> object:
    return field.default if field.default is not NODEFAULT else field.default_factory()


def _units() -> Iterator[str]:
    yield "## Units\n"
    yield "Units in one row convert to each other; agents convert, or are refused.\n"
    yield "| Measures | Units |"
    yield "|---|---|"
    for dimension, group in groupby(UNITS.items(), key=lambda item: item[1].dimension):
        yield f"| {dimension} | {', '.join(f'`{symbol}`' for symbol, _ in group)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
