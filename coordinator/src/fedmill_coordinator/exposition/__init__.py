# SPDX-License-Identifier: Apache-2.0
"""Metrics of the whole fleet for Prometheus: agents listen on no port, the coordinator tells."""
