"""One player: its parameters, its optimizer, its learning rate and its gradients. The only place that steps."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from gan_lightning.speed import make_optimizer

Schedule = Callable[[int], float]  # generator steps -> factor of the learning rate
OptimizerFactory = Callable[..., Optimizer]  # parameters -> optimizer


class Player:
    """A network (or a ModuleDict of several) and what moves it.

    capturable: its steps go into CUDA graphs.
    """

    def __init__(
        self,
        network: nn.Module,
        factory: OptimizerFactory,
        schedule: Schedule,
        clip: float | None,
        capturable: bool = False,
    ) -> None:
        self.schedule = schedule
        self.clip = clip
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.capturable = capturable
        self.optimizer = make_optimizer(factory, self.parameters, capturable)
        self.settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.gradient_norm: Tensor | None = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """No gradients for this player's weights: the other player's loss passes through it for free."""
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(True)

    def apply_settings(self) -> None:
        """The configuration's numbers win over those that came with a loaded optimizer state.

        Its tensors take the layout of the weights: fused optimizers read both in the order of memory.
        """
        for group, settings in zip(self.optimizer.param_groups, self.settings, strict=True):
            rate: float | Tensor = float(group["lr"])  # the newest step's; every step sets its own
            if self.capturable:  # a graph reads the rate anew at every replay
                rate = torch.tensor(rate, dtype=torch.float32, device=group["params"][0].device)
            group.update({**settings, "lr": rate})
        for parameter, state in self.optimizer.state.items():
            for key, value in state.items():
                if key == "step" and isinstance(value, Tensor):  # loaded as the optimizer that saved it needed it
                    fused = self.optimizer.defaults.get("fused") or self.capturable
                    state[key] = value.to(parameter.device if fused else "cpu", torch.float32)
                elif isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def set_learning_rate(self, generator_steps: int, phase_rate: float = 1.0) -> float:
        """The base rate times the schedule: a pure function of the counters, so that there is no state to lose."""
        factor = self.schedule(generator_steps) * phase_rate
        for group, settings in zip(self.optimizer.param_groups, self.settings, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(settings["lr"] * factor)
            else:
                group["lr"] = settings["lr"] * factor
        return self.settings[0]["lr"] * factor

    def forget_gradients(self) -> None:
        """As optimizer.zero_grad() does, without its 50 microseconds of bookkeeping."""
        for parameter in self.parameters:
            parameter.grad = None

    def average_gradients(self, world: int) -> None:
        """The mean over the ranks in one flat all-reduce: once per step, however many backward passes made it."""
        if world == 1:
            return
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients]).div_(world)
        torch.distributed.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for parameter, gradient, part in zip(self.parameters, gradients, parts, strict=True):
            parameter.grad = gradient.copy_(part.view_as(gradient))  # in the layout of the weights

    def clip_gradients(self, measure: bool) -> None:
        """Cuts the gradient to the norm `clip`; with `measure`, keeps the norm it had. Gradients must be unscaled."""
        if self.clip is None and not measure:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self.gradient_norm = get_total_norm(gradients)
        if self.clip is not None:
            clip_grads_with_norm_(self.parameters, self.clip, self.gradient_norm)


def average_buffers(network: nn.Module, world: int) -> None:
    """Floating-point buffers (BatchNorm's running statistics) become their mean over the ranks, in place."""
    buffers = [b for b in network.buffers() if b.is_floating_point()]
    if world == 1 or not buffers:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers]).div_(world)
    torch.distributed.all_reduce(flat)
    for buffer, part in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
        buffer.copy_(part.view_as(buffer))
