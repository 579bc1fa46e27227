# SPDX-License-Identifier: Apache-2.0
"""Libraries without what they import for nothing: each case in an interpreter of its own."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    """What ``code`` prints."""
    child = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return child.stdout.strip()


BEFORE = "import sys\nfrom fedmill_shared.lean import without\n"
URLS = BEFORE + (
    "with without(later={'ipaddress': {'left': 'out'}}):\n"
    "    import urllib.parse as urls\n"
    "assert 'ipaddress' not in sys.modules\n"
)
LINK = "import sys\nimport fedmill_shared.link.mqtt\nfrom paho.mqtt import client\n"


class TestLater:
    def test_is_imported_with_its_first_use(self) -> None:
        """The library does not notice."""
        code = URLS + (
            "print(urls.urlsplit('http://[::1]:80/').hostname, 'ipaddress' in sys.modules)\n"
        )
        assert run(code) == "::1 True"

    def test_what_the_module_does_not_have_it_has_not_either(self) -> None:
        """And a mistake is told as the module tells it."""
        code = URLS + (
            "try: urls.urlsplit('http://[nonsense]/')\n"
            "except ValueError as error: print('nonsense' in str(error))\n"
            "print(hasattr(urls.ipaddress, 'nonsense'))\n"
        )
        assert run(code).split() == ["True", "False"]

    def test_others_import_the_module_itself(self) -> None:
        """It stands in the way of nobody once the library is there."""
        code = URLS + "import ipaddress\nprint(ipaddress.ip_address('::1'), ipaddress.__name__)\n"
        assert run(code) == "::1 ipaddress"

    def test_what_may_be_asked_for_meanwhile_imports_nothing(self) -> None:
        """Until somebody has imported it: then that counts."""
        code = URLS + (
            "print(urls.ipaddress.left, 'ipaddress' in sys.modules)\n"
            "import ipaddress\n"
            "print(hasattr(urls.ipaddress, 'left'))\n"
        )
        assert run(code).split() == ["out", "False", "False"]

    def test_a_name_from_it_that_stands_there_meanwhile_imports_nothing(self) -> None:
        """Python asks whether it is a package first: that is no use of it."""
        code = BEFORE + (
            "with without(later={'ipaddress': {'left': 'out'}}):\n"
            "    from ipaddress import left\n"
            "print(left, 'ipaddress' in sys.modules)\n"
        )
        assert run(code) == "out False"

    def test_what_was_found_is_found_without_a_search(self) -> None:
        """The second look is one at an attribute, and costs what that costs."""
        code = URLS + (
            "first = urls.ipaddress.ip_address\n"
            "print('ip_address' in vars(urls.ipaddress), urls.ipaddress.ip_address is first)\n"
        )
        assert run(code) == "True True"

    def test_inside_the_context_too(self) -> None:
        """A library may use it while it is imported after all."""
        code = BEFORE + (
            "with without(later={'ipaddress': {}}):\n"
            "    import ipaddress\n"
            "    found = ipaddress.ip_address('::1')\n"
            "print(found, sys.modules['ipaddress'] is not ipaddress)\n"
        )
        assert run(code) == "::1 True"

    def test_what_is_imported_already_stays(self) -> None:
        """Nothing is taken from those who have it."""
        code = BEFORE.replace("sys\n", "sys, ipaddress\n", 1) + (
            "with without(later={'ipaddress': {}}):\n"
            "    import ipaddress as again\n"
            "print(again is ipaddress)\n"
        )
        assert run(code) == "True"


class TestLink:
    def test_a_connection_without_tls_has_no_ssl(self) -> None:
        """A socket with nothing to read is the usual thing, and not worth a library."""
        code = LINK + (
            "import socket\n"
            "us, them = socket.socketpair()\n"
            "us.setblocking(False)\n"
            "paho = client.Client(client.CallbackAPIVersion.VERSION2)\n"
            "paho._sock = us\n"
            "try: paho._sock_recv(1)\n"
            "except BlockingIOError: print('empty', 'ssl' in sys.modules)\n"
            "for each in (us, them): each.close()\n"
        )
        assert run(code) == "empty False"

    @pytest.mark.parametrize(
        "first", ["paho.tls_set()", "import ssl; ssl.create_default_context()"]
    )
    def test_one_with_tls_has_it(self, first: str) -> None:
        """And the errors that paho waits for are those of the library."""
        code = LINK + (
            "paho = client.Client(client.CallbackAPIVersion.VERSION2)\n"
            f"{first}\n"
            "import ssl\n"
            "print(client.ssl.SSLWantReadError is ssl.SSLWantReadError)\n"
        )
        assert run(code) == "True"


class TestEmpty:
    def test_numpy_without_the_texts_of_its_help(self) -> None:
        """It computes as ever, and says no more of itself than under ``python -OO``."""
        code = (
            "from fedmill_agent.memory import import_numpy\n"
            "import_numpy()\n"
            "import numpy, numpy.linalg, numpy.random\n"
            "from numpy import ma\n"
            "print(numpy.array.__doc__ is None, numpy.linalg.norm(numpy.array([3.0, 4.0])))\n"
        )
        assert run(code) == "True 5.0"

    def test_numpy_computes_without_what_describes_functions(self) -> None:
        """And whoever asks for their signatures, or prints an array of odd kind, gets them."""
        code = (
            "import sys\n"
            "from fedmill_agent.memory import import_numpy\n"
            "import_numpy()\n"
            "names = {'inspect', 'ast', 'dis', 'pickle'}\n"
            "print(*sorted(names & set(sys.modules)))\n"
            "import inspect, pickle, numpy\n"
            "print(list(inspect.signature(numpy.mean).parameters)[:2])\n"
            "print(pickle.loads(pickle.dumps(numpy.arange(3))).sum(), numpy.dtype('2f4, i8')[0])\n"
        )
        assert run(code).splitlines() == ["['a', 'axis']", "3 ('<f4', (2,))"]

    def test_a_data_class_without_a_docstring_has_a_short_one(self) -> None:
        """It names the class; the fields are added once somebody has use for signatures."""
        code = (
            "import sys, fedmill_agent\n"
            "from dataclasses import dataclass\n"
            "@dataclass\n"
            "class Early: size: int\n"
            "print(Early.__doc__, 'inspect' in sys.modules)\n"
            "import inspect\n"
            "@dataclass\n"
            "class Late: size: int\n"
            "print(Late.__doc__)\n"
        )
        assert run(code).splitlines() == ["Early False", "Late(size: int)"]

    def test_the_log_without_what_only_other_logs_need(self) -> None:
        """It is there for whoever wants it."""
        code = (
            "import sys, fedmill_shared.log\n"
            "print(*sorted({'asyncio', 'rich', 'structlog.stdlib'} & set(sys.modules)))\n"
            "import structlog\n"
            "print(structlog.stdlib.BoundLogger.__name__)\n"
        )
        assert run(code) == "BoundLogger"
