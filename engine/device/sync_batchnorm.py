"""Batch normalisation over the pieces of all processes; torch's own on CUDA, the same formula on the CPU.

nn.SyncBatchNorm refuses CPU tensors, so there the statistics are differentiable sums over the ranks:

    μ = Σ_r Σ x / n        σ² = Σ_r Σ (x − μ)² / n        n = values of a channel on all ranks

Their backward pass sends one message each, in the order in which autograd visits the layers. That order is the same on
every rank as long as all ranks run the same graph; a network whose layers depend on the data would block them.
"""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from engine.device.world import World

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def synchronise_batch_norm(module: nn.Module, world: World) -> nn.Module:
    """Let every batch normalisation inside `module` use the statistics of the whole batch; in place.

    For networks, which see a piece of the batch. Losses are computed of the whole batch already.
    """
    if world.size > 1:
        # A layer in two places has two names and stays one layer.
        parts = module.named_modules(remove_duplicate=False)
        named = [(name, part) for name, part in parts if isinstance(part, BatchNorm)]
        synchronised = {part: SyncBatchNorm.of(part) for _, part in named}
        for name, part in named:
            module.set_submodule(name, synchronised[part])
    return module


class SyncBatchNorm(nn.SyncBatchNorm):
    """nn.SyncBatchNorm that takes CPU tensors too.

    In evaluation mode it is nn.BatchNorm and sends nothing, so ranks may evaluate different numbers of batches.
    """

    @classmethod
    def of(cls, norm: BatchNorm) -> "SyncBatchNorm":
        """A synchronised layer that shares the parameters, statistics and children of `norm`."""
        ours = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        ours.weight, ours.bias = norm.weight, norm.bias
        ours.running_mean, ours.running_var = norm.running_mean, norm.running_var
        ours.num_batches_tracked = norm.num_batches_tracked
        for name, child in norm.named_children():
            ours.add_module(name, child)
        return ours.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise B×C, B×C×L or B×C×H×W; shape, dtype and memory format stay.

        Raises:
            ValueError: the whole batch has a single value for each channel.
        """
        x = super().forward(x) if x.is_cuda or not self.training else self._forward_on_cpu(x)
        for part in self.children():  # timm's batch norms hold the dropout and the activation that follow them
            x = part(x)
        return x

    def _forward_on_cpu(self, x: Tensor) -> Tensor:
        self._check_input_dim(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        dims, per_channel = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        totals = all_reduce(torch.cat([values.sum(dims), values.new_tensor([x.numel() / x.shape[1]])]))
        count = totals[-1].item()
        if count == 1:
            raise ValueError("batch normalisation cannot train on one value for each channel; give a larger batch")
        mean = totals[:-1] / count
        centred = values - mean.view(per_channel)
        variance = all_reduce(centred.square().sum(dims)) / count
        self._track(mean.detach(), variance.detach() * (count / (count - 1)))
        normalised = centred * (variance + self.eps).rsqrt().view(per_channel)
        if self.affine:
            normalised = torch.addcmul(self.bias.view(per_channel), normalised, self.weight.view(per_channel))
        return normalised.to(x.dtype)

    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        # Without momentum the statistics are the plain average of all batches.
        factor = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, factor)
        self.running_var.lerp_(unbiased_variance, factor)
