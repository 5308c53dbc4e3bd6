"""Networks around a network: what the base asks of the inner one is found on the outer one."""

from typing import Any

from torch import Tensor, nn


class Wrapped(nn.Module):
    """A network that is called as the one in it, and has its attributes: sizes, classes, methods, layers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def __getattr__(self, name: str) -> Any:
        """Of the inner network what the outer one lacks; only asked for what usual ways do not find."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "network" not in self.__dict__.get("_modules", {}):  # while it is built or copied
                raise
            return getattr(self.network, name)

    def forward(self, *given: Any, **named: Any) -> Tensor:
        return self.network(*given, **named)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network in all wrappers: what kind of generator a rule has."""
    while isinstance(network, Wrapped):
        network = network.network
    return network
