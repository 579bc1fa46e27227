# SPDX-License-Identifier: Apache-2.0
"""One flat float32 vector under all tensors of a module.

What the federation sends, what training changes and what ONNX reads are then the same bytes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedmill_shared.errors import ModelError
from fedmill_shared.models import manifest_of
from fedmill_shared.models.manifest import LEARNED, Role
from fedmill_shared.models.readout import readout_of


class FlatModel:
    """Owns the memory of a module's parameters and buffers, and of its gradients.

    Clear gradients with ``gradient.zero_()``: the module's or an optimiser's ``zero_grad`` would
    detach them.

    Attributes:
        module: the module, whose parameters and buffers are now views.
        manifest: where each tensor lies.
        vector: numpy view (size,) of everything.
        learned: torch view of the backbone, head, norm and adapter elements, the first of
            ``vector``.
        gradient: gradient of ``learned``, same shape; ``backward`` adds to it.
        trainable: the first elements of ``learned`` that are parameters; behind them lie running
            statistics, which no optimiser may touch.
        control: torch view of the control variates, the last elements of ``vector``; empty unless
            the job's rule is ``scaffold``.
    """

    def __init__(self, module: nn.Module) -> None:
        """``module`` is float32 on the CPU; it must not be shared with another FlatModel.

        Raises:
            ModelError: a tensor is not float32.
        """
        self.module = module
        self.manifest = manifest_of(module)
        self._flat = torch.zeros(self.manifest.size)
        learned = self.manifest.count(LEARNED)
        self.learned = self._flat[:learned]
        self.control = self._flat[self.manifest.size - self.manifest.count(("control",)) :]
        self.gradient = torch.zeros(learned)
        self.trainable = sum(parameter.numel() for parameter in module.parameters())
        self.vector: NDArray[np.float32] = self._flat.numpy()
        state: dict[str, Tensor] = module.state_dict(keep_vars=True)
        for entry in self.manifest.bound:
            place = slice(entry.offset, entry.offset + entry.size)
            tensor, view = state[entry.name], self._flat[place].view(entry.shape)
            view.copy_(tensor.detach())
            tensor.data = view
            if isinstance(tensor, nn.Parameter):
                tensor.grad = self.gradient[place].view(entry.shape)

    def places(self, roles: tuple[Role, ...]) -> list[slice]:
        """Where in ``learned`` the parameters with one of ``roles`` lie, in order.

        Control variates for these roles lie in the same order, one behind the other.
        """
        return [
            slice(start, min(stop, self.trainable))
            for start, stop in self.manifest.ranges(roles)
            if start < self.trainable
        ]

    def load(self, vector: NDArray[np.float32]) -> None:
        """Copy ``vector`` (size,) into the module.

        Raises:
            ModelError: it does not fit the manifest.
        """
        self.manifest.check(vector)
        np.copyto(self.vector, vector)

    def features(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the last linear layer works on (B, width), for ``windows`` as in ``predict``.

        Raises:
            ModelError: the model does not end in one.
        """
        readout = readout_of(self.manifest)
        if readout is None:
            raise ModelError("the model has no linear layer at its end")
        seen: list[Tensor] = []
        layer = self.module.get_submodule(readout.weight.name.rpartition(".")[0])
        hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.predict(windows)
        finally:
            hook.remove()
        features: NDArray[np.float32] = seen[0].numpy()
        return features

    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (B, outputs) for ``windows`` (B, signals, L), as in inference: no dropout."""
        training = self.module.training
        self.module.eval()
        with torch.inference_mode():
            # torch warns of arrays it could not write to, as memory-mapped windows are.
            tensor = torch.from_numpy(np.require(windows, np.float32, ["C", "W"]))
            outputs: NDArray[np.float32] = self.module(tensor).numpy()
        self.module.train(training)
        return outputs
