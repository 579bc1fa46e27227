# SPDX-License-Identifier: Apache-2.0
"""What fedmill agents and coordinators must agree on."""

__version__ = "0.1.0"
