"""STD's regulariser (Algorithm 1): now and then, one step that makes spatial and channel tokens say different things.

    V = the bound of mine.py on I(T_S; T_C) over a batch;   θ ← θ + r_θ·∂V/∂θ;   ω ← ω − r_ω·∂V/∂ω

θ is the statistics network, ω all of the vision model. Both steps take the same gradient and are plain: they leave the
optimizer's momentum and weight decay alone. The paper gives no rates; 0.01 is the reproduction's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.method import Batch, Trainee
from distiller_zoo.mine import Marginal, StatisticsNetwork, information_bound, marginal_order
from distiller_zoo.option_types import OnlyWith, Range, StepSize

WithMine = OnlyWith("std_mine", (True,))


@dataclass(frozen=True)
class MineOptions:
    """Whether, when and how the step is taken: options of std.

    Attributes:
        std_mine: whether it is.
        std_mine_every: one step every so many steps of an epoch; 0: at the first of each epoch.
        std_mine_samples: images of a batch that are used; 0: all.
        std_mine_pairs: how images are paired for the marginal (see `marginal_order`).
        std_mine_lr, std_mine_student_lr: r_θ and r_ω.

    Raises:
        RequestError: a value is out of range.
    """

    std_mine: bool = False
    std_mine_every: Annotated[int, Range(0, 10**9), WithMine] = 0
    std_mine_samples: Annotated[int, Range(0, 10**9), WithMine] = 0
    std_mine_pairs: Annotated[Marginal, WithMine] = "random"
    std_mine_lr: Annotated[StepSize, WithMine] = 0.01
    std_mine_student_lr: Annotated[StepSize, WithMine] = 0.01

    def __post_init__(self) -> None:
        if self.std_mine_samples == 1:
            raise RequestError("--std_mine_samples is 1; the bound compares samples, give 2 or more, or 0 for all")


class TokenInformation(nn.Module):
    """A statistics network for each module with heads; with several pairs of tokens there, each is a sample.

    Args:
        shapes: (N, H, W) of the block of each module.
        pairs: tokens of each kind in a module.

    Attributes:
        bound: V in nats before the latest step; a scalar.
    """

    bound: Tensor

    def __init__(self, shapes: Sequence[tuple[int, int, int]], pairs: int, options: MineOptions):
        super().__init__()
        self.networks = nn.ModuleList(StatisticsNetwork(n, h * w) for n, h, w in shapes)
        self.requires_grad_(False)  # the run's optimizer must not train them
        self.widths = [n for n, _, _ in shapes]
        self.pairs, self.options = pairs, options
        self.register_buffer("bound", torch.zeros(()))

    def due(self, step: int) -> bool:
        """True if the step follows step `step` (from 0) of an epoch."""
        every = self.options.std_mine_every
        return step % every == 0 if every else step == 0

    def value(self, tokens: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        """V in nats, the mean over the modules; `tokens` are B×(N+P), `pairs` of each module in turn."""
        bounds = []
        for place, (psi, width) in enumerate(zip(self.networks, self.widths, strict=True)):
            of_module = tokens[place * self.pairs : (place + 1) * self.pairs]
            both = torch.cat([one[: self.options.std_mine_samples or None] for one in of_module])
            order = marginal_order(len(both), self.options.std_mine_pairs, generator)
            bounds.append(information_bound(psi, both[:, :width], both[:, width:], order))
        return torch.stack(bounds).mean()

    def step(self, trainee: Trainee, batch: Batch) -> None:
        """Take both steps, and keep V of before them in `bound`."""
        for parameter in trainee.parameters:
            parameter.grad = None  # of the optimizer's step, which is done
        self.networks.requires_grad_(True)
        psi, model = list(self.networks.parameters()), trainee.parameters
        rate_psi, rate_model = self.options.std_mine_lr, self.options.std_mine_student_lr
        value = self.value(trainee.features(batch.images).tokens, batch.generator("mine"))
        value.backward()
        trainee.average([*psi, *model])
        with torch.no_grad():
            for parameters, rate in ((psi, rate_psi), (model, -rate_model)):
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=rate)
                        parameter.grad = None
        self.networks.requires_grad_(False)
        self.bound.copy_(value.detach())
