# SPDX-License-Identifier: Apache-2.0
"""From samples to windows: units, quality, resampling, windows, statistics. No torch."""
