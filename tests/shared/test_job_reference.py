# SPDX-License-Identifier: Apache-2.0
"""The generated reference pages."""

from pathlib import Path

import pytest
from msgspec import inspect

from fedmill_shared import errors
from fedmill_shared.job import Job
from fedmill_shared.job_check import decode_job
from fedmill_shared.job_reference import (
    SMALLEST_JOB,
    exit_codes_markdown,
    main,
    markdown,
)
from fedmill_shared.toml.place import structs

DOCS = Path(__file__).parents[2] / "docs"
STALE = "is stale: run python -m fedmill_shared.job_reference docs"


class TestCommittedPages:
    """The pages in ``docs``."""

    def test_job_reference(self) -> None:
        """The committed page is what the types say."""
        page = DOCS / "job-reference.md"
        assert page.read_text() == markdown(), f"{page} {STALE}"

    def test_exit_codes(self) -> None:
        """The committed table is what the errors say."""
        page = DOCS / "exit-codes.md"
        assert page.read_text() == exit_codes_markdown(), f"{page} {STALE}"


class TestMarkdown:
    """What stands in the pages."""

    def test_every_field_is_there(self) -> None:
        """Each field of each table has a row with a description."""
        page = markdown()
        for section in next(structs(inspect.type_info(Job))).fields:
            for struct in structs(section.type):
                for field in struct.fields:
                    rows = [
                        r for r in page.splitlines() if r.startswith(f"| `{field.encode_name}` |")
                    ]
                    assert rows, f"{section.name}.{field.name}"
                    assert all(row.count("|") == 5 and not row.endswith("|  |") for row in rows)

    def test_a_row(self) -> None:
        """A row says what is accepted, the default and the meaning."""
        assert (
            "| `length` | an integer of at least 1 and at most 1048576 | `1024` "
            "| Samples of each signal in one window. |\n"
        ) in markdown()

    def test_headers(self) -> None:
        """Sections are headed as they are written in the file."""
        page = markdown()
        assert "## `[[signals]]`\n" in page
        assert '## `[model]` with `architecture = "gru"`\n' in page

    def test_units(self) -> None:
        """Units that convert to each other share a row."""
        assert "| temperature | `K`, `degC`, `degF`, `degR` |\n" in markdown()

    def test_smallest_job(self) -> None:
        """The example on the page is short and decodes."""
        assert SMALLEST_JOB in markdown()
        assert len([line for line in SMALLEST_JOB.splitlines() if line]) <= 15
        assert decode_job(SMALLEST_JOB, "example").outputs == 4

    def test_exit_codes(self) -> None:
        """Every error has its row, in the order of codes, and success comes first."""
        rows = exit_codes_markdown().splitlines()
        codes = [
            int(row.split("|")[1]) for row in rows if row.startswith("| ") and row[2].isdigit()
        ]
        assert codes == sorted(codes)
        assert codes[0] == 0
        assert f"| {errors.JobError.exit_code} | `JobError` | A job file is wrong. |" in rows


class TestCommand:
    """``python -m fedmill_shared.job_reference``."""

    def test_writes_both(self, tmp_path: Path) -> None:
        """Both pages are written into the folder."""
        assert main([str(tmp_path)]) == 0
        assert (tmp_path / "job-reference.md").read_text() == markdown()
        assert (tmp_path / "exit-codes.md").read_text() == exit_codes_markdown()

    @pytest.mark.parametrize("arguments", [[], ["a", "b"]])
    def test_usage(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """Anything but one folder is a usage error."""
        assert main(arguments) == errors.UsageError.exit_code
        assert "give exactly one folder" in capsys.readouterr().err

    def test_missing_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A folder that is not there is named."""
        assert main([str(tmp_path / "none")]) == errors.StoreError.exit_code
        assert "none" in capsys.readouterr().err
