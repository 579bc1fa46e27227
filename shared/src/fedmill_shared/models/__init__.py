# SPDX-License-Identifier: Apache-2.0
"""Architectures, and the layout of their weights. Importing this package imports no torch."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmill_shared.errors import ModelError
from fedmill_shared.job import Autoencoder, Job, Pca
from fedmill_shared.models.manifest import LEARNED, Manifest, Role, Tensor
from fedmill_shared.models.normaliser import Normaliser
from fedmill_shared.models.sharing import mirrored_roles
from fedmill_shared.models.spec import spec_of

if TYPE_CHECKING:
    from torch import nn

    from fedmill_shared.models.network import Network

_FAMILIES = {
    "Mlp": "fedmill_shared.models.mlp",
    "Wdcnn": "fedmill_shared.models.wdcnn",
    "Gru": "fedmill_shared.models.gru",
    "Autoencoder": "fedmill_shared.models.autoencoder",
    "Pca": "fedmill_shared.models.pca",
}


def build(job: Job, seed: int, *, regimes: int = 1) -> "Network":
    """The network of ``job``, with initial weights that are the same on every machine.

    Args:
        job: names the architecture, the windows, and by its rule whether control variates are laid
            out behind the weights.
        seed: decides the weights.
        regimes: operating conditions of the normaliser; 1 unless it standardises by regime.

    Raises:
        ModelError: the architecture cannot be built for these windows, or for the job's task.
    """
    spec = spec_of(job, regimes)
    if job.needs_labels == isinstance(job.model, Autoencoder | Pca):
        raise ModelError(
            f"job {job.name!r}: task = 'reconstruction' and an autoencoder or principal components "
            "need each other",
            remedy="write both or neither of them",
        )
    family = import_module(_FAMILIES[type(job.model).__name__])
    create: Callable[[Callable[[], Network], int], Network] = import_module(
        "fedmill_shared.models.network"
    ).create
    network = create(lambda: family.build(spec, job.model), seed)
    network.mirrored = mirrored_roles(job)
    return network


def manifest_of(module: "nn.Module") -> Manifest:
    """The layout of ``module``'s state, by the first part of each tensor's name.

    Order: parameters by role (backbone, head, norm, adapter), running statistics of norms, buffers,
    and where the module's job wants them, control variates that mirror parameters.

    Raises:
        ModelError: a tensor is not float32, or a parameter's name tells no role.
    """
    parameters = {name for name, _ in module.named_parameters()}
    roles: dict[str, Role] = {role: role for role in LEARNED}
    ordered: list[tuple[int, str, tuple[int, ...], Role]] = []
    for name, tensor in module.state_dict().items():
        if str(tensor.dtype) != "torch.float32":
            raise ModelError(f"model: tensor {name!r} is {tensor.dtype}, not float32")
        role = roles.get(name.split(".")[0], "buffer")
        if role == "buffer" and name in parameters:
            raise ModelError(
                f"model: parameter {name!r} has no role",
                remedy=f"its name must start with one of {', '.join(LEARNED)}",
            )
        rank = LEARNED.index(role) if role in LEARNED else len(LEARNED) + 1
        if name not in parameters:
            rank = max(rank, len(LEARNED))
        ordered.append((rank, name, tuple(tensor.shape), role))
    tensors: list[Tensor] = []
    offset = 0
    for _, name, shape, role in sorted(ordered, key=lambda entry: entry[0]):
        tensors.append(Tensor(name=name, shape=shape, offset=offset, role=role))
        offset += tensors[-1].size
    mirrored: tuple[Role, ...] = getattr(module, "mirrored", ())
    for tensor in tuple(tensors):
        if tensor.role in mirrored and tensor.name in parameters:
            name = f"control.{tensor.name}"
            tensors.append(Tensor(name=name, shape=tensor.shape, offset=offset, role="control"))
            offset += tensor.size
    return Manifest(tensors=tuple(tensors))


def initial_vector(job: Job, normaliser: Normaliser, seed: int) -> NDArray[np.float32]:
    """The weights (size,) of a job's first version: seeded layers and the agreed statistics.

    Control variates start at zero.

    Raises:
        ModelError: the normaliser does not fit the job.
    """
    normaliser.check(job)
    module = build(job, seed, regimes=normaliser.regimes)
    manifest, state = manifest_of(module), module.state_dict()
    vector = np.zeros(manifest.size, np.float32)
    for entry in manifest.bound:
        vector[entry.offset : entry.offset + entry.size] = state[entry.name].numpy().ravel()
    normaliser.write(manifest, vector)
    return vector
