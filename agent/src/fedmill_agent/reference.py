# SPDX-License-Identifier: Apache-2.0
"""The configuration with every built-in kind of source, for the page that describes it."""

from fedmill_agent import config
from fedmill_agent.sources import builtin

AgentConfig = config.schema(builtin())
