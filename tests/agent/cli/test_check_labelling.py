# SPDX-License-Identifier: Apache-2.0
"""``fedmill-agent check`` reads what labels come from, and says what a job makes of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agent.sources.live.stands.rest import Server, document

from fedmill_agent.cli import check_labelling, main

Configure = Callable[..., Path]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_labelling, "LISTEN_SECONDS", 0.1)


def entry(kind: str, **fields: Any) -> str:
    """A ``[[labels]]`` entry."""
    lines = [f"{name} = {value!r}" for name, value in {"name": "lab", **fields}.items()]
    return "\n".join(["[[labels]]", f'kind = "{kind}"', *lines])


def lines(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[str]]:
    """Exit code, and the lines about labels."""
    code = main(["check", str(path), "--offline", *more])
    told = capsys.readouterr().out.splitlines()
    first = next(n for n, line in enumerate(told) if line.startswith(("labels ", "problem: ")))
    return code, told[first:]


class TestLabels:
    def test_a_file(
        self, configure: Configure, job_file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """How many the job can use, and why not the others."""
        config = configure(extra=entry("csv", path="labels.csv"))
        rows = ["press,1,good,", "press,2,worn,", "press,3,torn,", "press,4,x,other"]
        path = config.with_name("labels.csv")
        path.write_text("\n".join(["unit,start,class,job", *rows, ""]))
        code, told = lines(config, capsys, "--job", str(job_file))
        assert code == 0
        assert told[:3] == [
            "labels lab: 4 labels",
            "  2 for job press, 1 for other jobs",
            "  missing: 'torn' is none of the job's classes: good, worn (1)",
        ]
        assert path.exists()

    def test_a_mistake_in_it(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The first is told with its line, and gives the exit code."""
        config = configure(extra=entry("csv", path="labels.csv"))
        config.with_name("labels.csv").write_text("unit,start,class\npress,1,x\npress,soon,x\n")
        code, told = lines(config, capsys)
        assert (code, told[0]) == (13, "labels lab: 1 labels")
        assert "problem: labels lab: " in told[1]
        assert "line 3: the label `start` is 'soon'" in told[1]

    def test_no_file_yet(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """That is no fault."""
        config = configure(extra=entry("csv", path="labels.csv"))
        assert lines(config, capsys) == (0, ["labels lab: the file is not there yet"])

    def test_a_server(self, configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
        """It is asked once."""
        server = Server()
        server.pages["/labels"] = document([{"unit": "press", "start": 1, "class": "good"}])
        server.start()
        config = configure(extra=entry("rest", url=f"{server.url}labels"))
        try:
            assert lines(config, capsys) == (0, ["labels lab: 1 labels"])
            assert len(server.requests) == 1
        finally:
            server.stop()
        code, told = lines(config, capsys)
        assert code == 23
        assert f"127.0.0.1:{server.port}" in told[0]

    def test_a_broker_that_is_not_there(
        self, configure: Configure, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """It is named."""
        config = configure(extra=entry("mqtt", port=1, topics=["quality"]))
        code, told = lines(config, capsys)
        assert code == 23
        assert "problem: broker 127.0.0.1:1: no connection" in told[0]
