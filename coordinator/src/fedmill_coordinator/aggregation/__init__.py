# SPDX-License-Identifier: Apache-2.0
"""Aggregation: one rule per file, pure functions over a sorted stream of updates."""

from fedmill_coordinator.aggregation.base import Report, Rule, State, Update
from fedmill_coordinator.aggregation.fedavg import FEDAVG
from fedmill_coordinator.aggregation.fedavgm import FEDAVGM
from fedmill_coordinator.aggregation.fedsgd import FEDSGD

RULES: dict[str, Rule] = {rule.name: rule for rule in (FEDAVG, FEDSGD, FEDAVGM)}

__all__ = ["RULES", "Report", "Rule", "State", "Update"]
