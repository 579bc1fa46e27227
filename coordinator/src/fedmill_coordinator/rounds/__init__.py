# SPDX-License-Identifier: Apache-2.0
"""The round engine: a pure state machine, and the conductor that carries out what it decides."""
