# SPDX-License-Identifier: Apache-2.0
"""``python -m fedmill_agent``."""

import sys

from fedmill_agent.cli import main

sys.exit(main())
