# SPDX-License-Identifier: Apache-2.0
"""What the status says of a model that the agent has made itself."""

from pathlib import Path

import pytest
from msgspec import structs
from tests.agent.cli.test_status import START, Configure, store
from tests.agent.kit import a_job

from fedmill_agent.cli import main
from fedmill_agent.cli.own_model_lines import own_model_lines
from fedmill_agent.inference.installing.states import SLOTS_FILE, Installation, Slots, SlotsFile
from fedmill_agent.places import versions_folder
from fedmill_shared.files import make_folder
from fedmill_shared.messages import BlobName, InstallState, VersionNotice

BLOB = BlobName(sha256="ab" * 32, size=16)
REASON = "its confidence is lower by 0.209 on 31 windows"
REFUSED = Installation(
    release=0,
    notice=VersionNotice(
        job="press",
        version="ab" * 32,
        number=10,
        template=BLOB,
        manifest=BLOB,
        canary_inputs=BLOB,
        canary_outputs=b"",
        snapshot=BLOB,
    ),
    origin="feedback",
    state=InstallState.REJECTED,
    since_ns=START,
    gate="shadow",
    reason=REASON,
)


def leave(state: Path, new: Installation | None) -> Path:
    """What the daemon leaves of the last thing that came to the gates."""
    store(state, a_job(), [[0.0, 1.0]])
    folder = make_folder(versions_folder(str(state), a_job()))
    SlotsFile(folder).write(Slots(new=new))
    return folder / SLOTS_FILE


class TestOwnModelLines:
    def test_nothing_came_yet(self, tmp_path: Path) -> None:
        """No line for a job that is not here, has no such file, or has had nothing at its gates."""
        assert own_model_lines(str(tmp_path), "press") == []
        path = leave(tmp_path, None)
        assert own_model_lines(str(tmp_path), "press") == []
        path.unlink()
        assert own_model_lines(str(tmp_path), "press") == []

    def test_one_that_was_refused(self, tmp_path: Path) -> None:
        """With the gate and its reason: the coordinator never hears of it."""
        leave(tmp_path, REFUSED)
        assert own_model_lines(str(tmp_path), "press") == [
            "own model abababababab (feedback): rejected, 2024-01-01T00:00:00.000Z",
            f"gate shadow: {REASON}",
        ]

    def test_one_on_its_way(self, tmp_path: Path) -> None:
        """No gate has said no; why it was made is told with its maker."""
        new = structs.replace(REFUSED, state=InstallState.SHADOWING, gate="", reason="five labels")
        leave(tmp_path, new)
        assert own_model_lines(str(tmp_path), "press") == [
            "own model abababababab (feedback): shadowing, 2024-01-01T00:00:00.000Z"
        ]

    @pytest.mark.parametrize("origin", ["release", "version"])
    def test_what_the_coordinator_sent(self, tmp_path: Path, origin: str) -> None:
        """Is told above, with the job."""
        leave(tmp_path, structs.replace(REFUSED, origin=origin))
        assert own_model_lines(str(tmp_path), "press") == []

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        """It is told, and stays: the daemon alone may remove it."""
        path = leave(tmp_path, REFUSED)
        path.write_bytes(b"not what it was")
        (line,) = own_model_lines(str(tmp_path), "press")
        assert line.startswith("own model unknown: ")
        assert path.read_bytes() == b"not what it was"

    def test_is_part_of_the_status(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Below what the job says of itself."""
        config = configure()
        leave(config.parent / "a-state", REFUSED)
        assert main(["status", str(config)]) == 0
        output = capsys.readouterr().out
        assert "own model abababababab (feedback): rejected" in output
        assert REASON in " ".join(output.split())
