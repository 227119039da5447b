"""STD's regulariser (Algorithm 1): now and then, one step that makes spatial and channel tokens say different things.

    V = the bound of mine.py on I(T_S; T_C) over a batch;   θ ← θ + r_θ·∂V/∂θ;   ω ← ω − r_ω·∂V/∂ω

θ is the statistics network, ω all of the vision model. Both steps take the same gradient and are plain: they leave the
optimizer's momentum and weight decay alone. The paper gives no rates; 0.01 is the reproduction's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.method import Batch, Trainee
from distiller_zoo.mine import Marginal, StatisticsNetwork, information_bound, marginal_order


class TokenInformation(nn.Module):
    """A statistics network for each module with heads; with several pairs of tokens there, each is a sample.

    Args:
        shapes: (N, H, W) of the block of each module.
        pairs: tokens of each kind in a module.
        every: one step every so many steps of an epoch; 0: at the first of each epoch.
        samples: images of a batch that are used; 0: all.
        rates: r_θ and r_ω.

    Raises:
        RequestError: a value that makes no sense.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        pairs: int,
        *,
        every: int,
        samples: int,
        marginal: Marginal,
        rates: tuple[float, float],
    ):
        super().__init__()
        if every < 0 or samples < 0 or samples == 1:
            raise RequestError(
                f"--std_mine_every {every} --std_mine_samples {samples}: give 0 or more, and 2 samples or more"
            )
        if min(rates) < 0:
            raise RequestError(f"--std_mine_lr and --std_mine_student_lr are {rates}; give 0 or more")
        self.networks = nn.ModuleList(StatisticsNetwork(n, h * w) for n, h, w in shapes)
        self.requires_grad_(False)  # the run's optimizer must not train them
        self.widths = [n for n, _, _ in shapes]
        self.pairs, self.every, self.samples, self.marginal, self.rates = pairs, every, samples, marginal, rates
        self.register_buffer("bound", torch.zeros(()))

    def due(self, step: int) -> bool:
        """Whether the step follows on step `step` (from 0) of an epoch."""
        return step % self.every == 0 if self.every else step == 0

    def value(self, tokens: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        """V in nats, the mean over the modules; `tokens` are B×(N+P), `pairs` of each module in turn."""
        bounds = []
        for place, (psi, width) in enumerate(zip(self.networks, self.widths, strict=True)):
            here = tokens[place * self.pairs : (place + 1) * self.pairs]
            both = torch.cat([each[: self.samples or None] for each in here])
            order = marginal_order(len(both), self.marginal, generator)
            bounds.append(information_bound(psi, both[:, :width], both[:, width:], order))
        return torch.stack(bounds).mean()

    def step(self, trainee: Trainee, batch: Batch) -> None:
        """Both updates, and V of before them into `bound`."""
        for parameter in trainee.parameters:
            parameter.grad = None  # of the optimizer's step, which is done
        self.networks.requires_grad_(True)
        psi, model = list(self.networks.parameters()), trainee.parameters
        value = self.value(trainee.features(batch.images).tokens, batch.generator("mine"))
        value.backward()
        trainee.average([*psi, *model])
        with torch.no_grad():
            for parameters, rate in ((psi, self.rates[0]), (model, -self.rates[1])):
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.add_(parameter.grad, alpha=rate)
                        parameter.grad = None
        self.networks.requires_grad_(False)
        self.bound.copy_(value.detach())
