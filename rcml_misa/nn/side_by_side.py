"""Networks of one form that are trained side by side, each layer of all of them as one product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["SideBySide"]


class SideBySide(nn.Module):
    """G networks of one form whose parameters are held stacked, with a leading axis G.

    The networks' own parameters and buffers become views of the stacked ones, so that a step of
    training moves the networks, until `release` gives them memory of their own.

    Parameters
    ----------
    networks : sequence of Module
        Networks of the same form, made of the layers of `rcml_misa.nn.layers` and of functions of
        the last axes.

    Examples
    --------
    >>> from rcml_misa.nn.layers import Linear
    >>> both = SideBySide([Linear(3, 2), Linear(3, 2)])
    >>> both(torch.zeros(2, 5, 3)).shape, both.run(1, torch.zeros(5, 3)).shape
    (torch.Size([2, 5, 2]), torch.Size([5, 2]))
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self._networks = tuple(networks)  # not as modules: their parameters are those of here
        self._names: dict[str, str] = {}
        for name, parts in self._tensors():
            stacked: Any = torch.stack([part.detach() for part in parts])
            own = name.replace(".", "_")
            self._names[name] = own
            if isinstance(parts[0], nn.Parameter):
                wanted = parts[0].requires_grad
                self.register_parameter(own, nn.Parameter(stacked, requires_grad=wanted))
            else:
                self.register_buffer(own, stacked)
            for part, value in zip(parts, stacked, strict=True):
                part.data = value

    def _tensors(self) -> list[tuple[str, list[Tensor]]]:
        """Parameters and lasting buffers by name, those of every network."""
        states = [network.state_dict(keep_vars=True) for network in self._networks]
        return [(name, [state[name] for state in states]) for name in states[0]]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of every network."""
        for network in self._networks:
            network.train(mode)
        return super().train(mode)

    def release(self) -> None:
        """Give every network parameters of its own."""
        for _, parts in self._tensors():
            for part in parts:
                part.data = part.data.clone()

    def forward(self, *inputs: Any) -> Any:
        """Run all networks on tensors with a leading axis G; so are their outputs."""
        tensors = {name: getattr(self, own) for name, own in self._names.items()}
        return functional_call(self._networks[0], tensors, inputs)

    def run(self, network: int, *inputs: Any) -> Any:
        """Run a single network, given by its number, on tensors without that axis."""
        tensors = {name: getattr(self, own)[network] for name, own in self._names.items()}
        return functional_call(self._networks[network], tensors, inputs)
