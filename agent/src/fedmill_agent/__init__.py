# SPDX-License-Identifier: Apache-2.0
"""fedmill agent: reads sensor streams on a gateway, scores them and learns from them."""

__version__ = "0.1.0"
