# SPDX-License-Identifier: Apache-2.0
"""Errors that only an agent can raise; the tree is rooted in :mod:`fedmill_shared.errors`."""

from fedmill_shared.errors import FedmillError


class AgentError(FedmillError):
    """An agent cannot go on."""


class NoDataError(AgentError):
    """No source delivers a window that a job could use."""

    exit_code = 13
