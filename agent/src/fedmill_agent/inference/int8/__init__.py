# SPDX-License-Identifier: Apache-2.0
"""Scoring with int8 convolutions where that is faster on this machine, and no worse."""
