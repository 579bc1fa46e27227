# SPDX-License-Identifier: Apache-2.0
"""The local work of an agent whose model are principal components: one pass that adds up moments.

Federated principal components from averaged second moments: Balcan, Kanchanapally, Liang &
Woodruff, "Improved Distributed Principal Component Analysis", NeurIPS 2014, arXiv:1408.5823,
section 3, without the compression: the moments of all agents are exactly those of all windows.
"""

from typing import cast

import numpy as np
import torch

from fedmill_shared.errors import DataError
from fedmill_shared.job import Job
from fedmill_shared.learning.descent import EVALUATION_BATCH
from fedmill_shared.learning.examples import Examples
from fedmill_shared.learning.home import Vector
from fedmill_shared.models.flat import FlatModel
from fedmill_shared.models.pca import PcaNetwork
from fedmill_shared.models.sharing import shared_roles
from fedmill_shared.monitoring.scatter import Scatter, merge_all, of_rows


def moments_delta(model: FlatModel, job: Job, examples: Examples) -> tuple[Vector, float]:
    """The agent's moments less those of the version in ``model``: a delta (shared elements,).

    Also the mean square of the standardised inputs around the agent's own mean: what a model that
    only knows the mean leaves. ``model`` stays as it is.

    Raises:
        DataError: there are no examples.
    """
    if len(examples) == 0:
        raise DataError(f"job {job.name}: no {job.learns_from}")
    scatter = scatter_of(model, examples.inputs)
    change = np.zeros_like(model.vector)
    told = dict(zip(("backbone.mean", "backbone.second"), scatter.moments(), strict=True))
    for tensor in model.manifest.tensors:
        if tensor.name in told:
            place = slice(tensor.offset, tensor.offset + tensor.size)
            change[place] = told[tensor.name] - model.vector[place]
    spread = float(np.trace(scatter.products)) / (scatter.count * scatter.width)
    return model.manifest.gather(change, shared_roles(job)), spread


def scatter_of(model: FlatModel, windows: torch.Tensor) -> Scatter:
    """Statistics of what the model's first layer makes of ``windows`` (n, signals, length)."""
    network = cast("PcaNetwork", model.module)
    with torch.inference_mode():
        parts = torch.split(windows, EVALUATION_BATCH)
        return merge_all(of_rows(network.inputs(part).numpy()) for part in parts)
