# SPDX-License-Identifier: Apache-2.0
"""Leaves word of how the service's process ended, for the next one (``ExecStopPost=``).

``python -m fedmill_agent.ended`` takes what systemd tells in its environment; see
``fedmill_agent.starts``. It imports little: it runs at every end.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fedmill_agent.starts import ENDED_FILE, ServiceEnd
from fedmill_shared.errors import StoreError
from fedmill_shared.files import write_atomic

LONGEST_WORD = 64


def main(environment: Mapping[str, str]) -> int:
    """Write ``ended.json`` into the state folder, unless all went well; exit code."""
    folder, result, code, status = (
        environment.get(name, "")[:length]
        for name, length in (
            ("STATE_DIRECTORY", 4096),
            ("SERVICE_RESULT", LONGEST_WORD),
            ("EXIT_CODE", LONGEST_WORD),
            ("EXIT_STATUS", LONGEST_WORD),
        )
    )
    if not folder or result in ("", "success"):
        return 0
    end = ServiceEnd(result=result, code=code, status=status)
    try:
        write_atomic(Path(folder) / ENDED_FILE, msgspec.json.encode(end))
    except StoreError as error:
        print(f"fedmill-agent: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
