# SPDX-License-Identifier: Apache-2.0
"""The wrong one of the three files that people write, given to each that reads one."""

from collections.abc import Callable
from pathlib import Path

import pytest

import fedmill_agent.config
import fedmill_coordinator.config
from fedmill_shared.errors import ConfigError, FedmillError, JobError
from fedmill_shared.job_check import load_job
from fedmill_shared.toml.kinds import KINDS

ROOT = Path(__file__).parents[3]
JOB = '# press\n[job]\nname = "press"\n\n[[signals]]\nname = "force"\n'
AGENT = '[agent]\nid = "a"\n\n[broker]\nport = 1884\n'
COORDINATOR = '[broker]\nport = 1884\n\n[coordinator]\njobs = ["press.toml"]\n'

Load = Callable[[Path], object]
LOADERS: dict[str, tuple[Load, type[FedmillError]]] = {
    "a job file": (load_job, JobError),
    "an agent configuration": (fedmill_agent.config.load, ConfigError),
    "a coordinator configuration": (fedmill_coordinator.config.load, ConfigError),
}
WRONG = [
    ("an agent configuration", JOB, "2: this is a job file: it has [job]"),
    ("a coordinator configuration", JOB, "2: this is a job file: it has [job]"),
    ("a job file", AGENT, "1: this is an agent configuration: it has [agent]"),
    ("a coordinator configuration", AGENT, "1: this is an agent configuration: it has [agent]"),
    ("a job file", COORDINATOR, "4: this is a coordinator configuration: it has [coordinator]"),
    (
        "an agent configuration",
        COORDINATOR,
        "4: this is a coordinator configuration: it has [coordinator]",
    ),
    (
        "an agent configuration",
        '[[signals]]\nname = "force"\n',
        "1: this is a job file: it has [[signals]]",
    ),
    (
        "a job file",
        'broker = {}\nsources = [{ kind = "rig" }]\n',
        "2: this is an agent configuration: it has [[sources]]",
    ),
]


def told(wanted: str, text: str, folder: Path) -> str:
    """What the reader of ``wanted`` says of ``text``."""
    load, error = LOADERS[wanted]
    path = folder / "file.toml"
    path.write_text(text)
    with pytest.raises(error) as caught:
        load(path)
    return str(caught.value).removeprefix(f"{path}:")


class TestMistaken:
    @pytest.mark.parametrize(("wanted", "text", "said"), WRONG)
    def test_another_kind(self, tmp_path: Path, wanted: str, text: str, said: str) -> None:
        """It says what the file is, how it shows, and what to give instead."""
        page = next(kind.page for kind in KINDS if kind.name == wanted)
        assert told(wanted, text, tmp_path) == f"{said} (give {wanted}, see {page})"

    @pytest.mark.parametrize(
        ("wanted", "text", "said"),
        [
            ("an agent configuration", AGENT + "[job]\n", "6: job is unknown"),
            ("a job file", JOB + "[agent]\n", "7: agent is unknown"),
            ("an agent configuration", "[broker]\nport = 1884\n", "1: the file has no [agent]"),
            ("a coordinator configuration", "[store]\n", "1: store is unknown"),
        ],
    )
    def test_the_right_kind_with_a_mistake(
        self, tmp_path: Path, wanted: str, text: str, said: str
    ) -> None:
        """A section too much or too little does not make it another file."""
        assert told(wanted, text, tmp_path).startswith(said)

    def test_pages_exist(self) -> None:
        """What a remedy points to is there."""
        assert [kind.page for kind in KINDS if not (ROOT / kind.page).exists()] == []
