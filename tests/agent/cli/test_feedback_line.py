# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
from tests.agent.cli.test_status import Configure, store
from tests.agent.kit import a_job

from fedmill_agent import kept
from fedmill_agent.cli import main
from fedmill_agent.cli.feedback_line import feedback_lines
from fedmill_agent.feedback.anchor import HEAD_FILE, HeadState, vectors
from fedmill_agent.places import job_folder
from fedmill_shared.files import make_folder

HEAD = np.zeros(4, np.float32)
MOMENT = 1_704_067_200_000_000_000


def leave(state: Path, *, used: bool = True) -> Path:
    """What a fit leaves."""
    path = make_folder(job_folder(str(state), "press")) / HEAD_FILE
    found = HeadState(
        layout="ab" * 32,
        vectors=vectors(HEAD, HEAD, HEAD),
        method="ridge",
        labels=37,
        gained=5,
        lost=1,
        used=used,
        moment_ns=MOMENT,
    )
    kept.keep(path, found)
    return path


class TestFeedbackLine:
    def test_nothing_was_ever_fitted(self, tmp_path: Path) -> None:
        """Most jobs have no line."""
        assert feedback_lines(str(tmp_path), "press") == []

    def test_how_the_last_fit_did(self, tmp_path: Path) -> None:
        """And whether it was used."""
        leave(tmp_path)
        (line,) = feedback_lines(str(tmp_path), "press")
        assert line == (
            "feedback: ridge on 37 labels, 5 told better, 1 worse; proposed, "
            "2024-01-01T00:00:00.000Z"
        )
        leave(tmp_path, used=False)
        assert "; not used, " in feedback_lines(str(tmp_path), "press")[0]

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        """It is told, and hides nothing else; the daemon alone may set it aside."""
        path = leave(tmp_path)
        path.write_bytes(b"not what it was")
        assert feedback_lines(str(tmp_path), "press")[0].startswith("feedback unknown: ")
        assert path.exists()

    def test_is_part_of_the_status(
        self, tmp_path: Path, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Below what the job says of itself."""
        config = configure()
        folder = config.parent / "a-state"
        store(folder, a_job(), [[0.0, 1.0]])
        leave(folder)
        assert main(["status", str(config)]) == 0
        assert "feedback: ridge on 37 labels" in capsys.readouterr().out
