# SPDX-License-Identifier: Apache-2.0
"""A stranger on the broker says everything that is wrong: it is refused, logged, and harmless."""

import time
from collections.abc import Iterator
from queue import SimpleQueue

import numpy as np
import pytest
from msgspec import json

from fedmill_shared.files import sha256
from fedmill_shared.link.base import Connected, LinkEvent
from fedmill_shared.link.blocks import blocks_of
from fedmill_shared.link.mqtt import Endpoint, MqttLink
from fedmill_shared.messages import (
    ALL,
    DOWN,
    UP,
    AgentState,
    BlobRequest,
    EvaluationReport,
    Join,
    JobNotice,
    MomentsReport,
    Receipt,
    Refusal,
    UpdateOffer,
    encode,
)
from fedmill_shared.metrics.classification import ClassificationStatistic
from tests.system.conftest import Launch
from tests.system.fleet import COORDINATOR, Fleet, a_job

pytestmark = pytest.mark.system
