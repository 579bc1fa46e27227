# SPDX-License-Identifier: Apache-2.0
"""ONNX templates that one process of a test run exports for all others: each costs it seconds.

::

    python -P tests/exported.py -m fedmill_coordinator serve coordinator.toml

runs a program that takes them from the folder that ``FEDMILL_TEST_EXPORTS`` names. Who does not
find one there exports it, by the program's own code, and leaves it. Nothing of this is in the
programs: one function is replaced before they are imported. The same job and architecture give the
same bytes in any process, which the tests of the exporter prove.
"""

import hashlib
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # so that a program is not kept from importing them as it would
    from torch import nn

    from fedmill_shared.job import Job

    Export = Callable[[Job, nn.Module], bytes]

FOLDER = "FEDMILL_TEST_EXPORTS"
EXPORTER = "fedmill_coordinator.registry.template"


def sharing(command: Sequence[str]) -> list[str]:
    """The same Python ``command`` with the templates of this run; outside of one as it is."""
    python, *rest = command
    return [python, "-P", __file__, *rest] if FOLDER in os.environ else [python, *rest]


def share(folder: Path) -> None:
    """Have this process, which imports the exporter anyway, use the templates in ``folder``."""
    exporter = import_module(EXPORTER)
    exporter.export_template = partial(  # type: ignore[attr-defined]
        shared, folder, exporter.export_template
    )


def shared(folder: Path, export: "Export", job: "Job", module: "nn.Module") -> bytes:
    """What ``export`` gives, which only the first caller has to wait for."""
    path = folder / name_of(job, module)
    if not path.exists():
        template = export(job, module)
        # not by the program's own functions, whose calls some tests count
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(template)
        os.replace(unfinished, path)  # noqa: PTH105
    return path.read_bytes()


def name_of(job: "Job", module: "nn.Module") -> str:
    """A name for all that decides about a template: schema, architecture, layers and layout."""
    import msgspec

    from fedmill_shared.models import manifest_of
    from fedmill_shared.models.schema import encode_schema, schema_of

    manifest = manifest_of(module)
    schema = encode_schema(schema_of(job, manifest)).encode()
    parts = (schema, msgspec.json.encode((job.model, manifest)), repr(module).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Run a module (``-m name``) or a file with its own arguments."""
    stand_in = ModuleType(EXPORTER)

    def export(job: "Job", module: "nn.Module") -> bytes:
        del sys.modules[EXPORTER]
        try:
            template: bytes = import_module(EXPORTER).export_template(job, module)
        finally:
            sys.modules[EXPORTER] = stand_in
        return template

    folder = Path(os.environ[FOLDER])
    stand_in.export_template = partial(shared, folder, export)  # type: ignore[attr-defined]
    sys.modules[EXPORTER] = stand_in
    if arguments[0] == "-m":
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
