# SPDX-License-Identifier: Apache-2.0
"""FederatedSGD: one gradient step per round on all the agents' data.

McMahan et al. 2017 (arXiv:1602.05629), section 2. Each agent sends minus the gradient of its mean
loss over all its examples; weighted by examples their mean is minus the gradient over everyone's,
and ``server_learning_rate`` is the step size. The coordinator's arithmetic is that of
FederatedAveraging; the rules differ in what the agents send.
"""

from fedmill_coordinator.aggregation.base import Rule
from fedmill_coordinator.aggregation.fedavg import FEDAVG

FEDSGD = Rule(name="fedsgd", init=FEDAVG.init, step=FEDAVG.step)
