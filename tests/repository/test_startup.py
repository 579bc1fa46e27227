# SPDX-License-Identifier: Apache-2.0
"""What a gateway pays for before it has done anything, in a fresh interpreter."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "cryptography",
    "tuf",
    "onnx",
    "onnxscript",
    "rich",
    "click",
    "sqlalchemy",
    "scipy",
)


def _run(code: str) -> str:
    child = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        check=False,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return child.stdout


class TestAgent:
    @pytest.mark.parametrize("module", ["fedmill_agent.daemon", "fedmill_agent.cli.run"])
    def test_daemon_imports_nothing_heavy(self, module: str) -> None:
        """No torch, no coordinator libraries; ONNX Runtime only with the first model."""
        names = (*HEAVY, "onnxruntime", "typing_extensions", "fedmill_coordinator")
        code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({names})))"
        assert _run(code) == "\n"

    def test_what_runs_for_months_carries_nothing_for_a_minute(self) -> None:
        """No parser of command lines or of Python, nothing for mistakes, no TLS before its time."""
        code = (
            "import sys\n"
            "from fedmill_agent.cli import main\n"
            "code = main(['run', '/nowhere/agent.toml'])\n"
            "import fedmill_agent.daemon\n"
            "names = {'argparse', 'gettext', 'difflib', 'ssl', 'ipaddress', 'shutil', 'inspect',\n"
            "         'ast', 'dis', 'pickle', 'locale', 'structlog.stdlib'}\n"
            "print(code, *sorted(names & set(sys.modules)))"
        )
        assert _run(code) == "10\n"

    def test_onnxruntime_comes_with_the_first_session(self) -> None:
        """And is told not to phone home before it is imported."""
        code = (
            "import os, sys, numpy, fedmill_agent.daemon\n"
            "from fedmill_shared.errors import ModelError\n"
            "from fedmill_shared.onnx_session import OnnxSession\n"
            "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
            "assert 'onnxruntime' not in sys.modules\n"
            "try: OnnxSession.from_template(b'no model', numpy.zeros(1, numpy.float32))\n"
            "except ModelError: print('onnxruntime' in sys.modules)"
        )
        assert _run(code) == "True\n"

    def test_works_without_the_coordinator(self) -> None:
        """A gateway has neither its package nor torch: every other module must still import."""
        code = (
            "import importlib, pkgutil, sys\n"
            "absent = ('fedmill_coordinator', 'torch', 'onnx', 'sqlalchemy', 'click', 'rich')\n"
            "sys.modules |= dict.fromkeys(absent)\n"
            "import fedmill_agent\n"
            "for each in pkgutil.walk_packages(fedmill_agent.__path__, 'fedmill_agent.'):\n"
            "    if each.name.split('.')[1] != 'training' and '__main__' not in each.name:\n"
            "        importlib.import_module(each.name)"
        )
        assert _run(code) == ""
