# SPDX-License-Identifier: Apache-2.0
"""``python -m fedmill_coordinator``."""

from fedmill_coordinator.cli import main

main(prog_name="fedmill")
