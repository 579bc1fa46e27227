# SPDX-License-Identifier: Apache-2.0
"""fedmill coordinator: rounds, aggregation, model registry and releases."""

__version__ = "0.1.0"
