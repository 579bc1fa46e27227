# SPDX-License-Identifier: Apache-2.0
"""Releases: which version agents are to serve, to whom it goes first, and when it is given up."""
