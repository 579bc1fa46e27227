# SPDX-License-Identifier: Apache-2.0
"""A coordinator in one file: written while it runs, and put back whole or not at all."""
