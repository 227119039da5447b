"""Batch normalisation over the pieces of all ranks, with gradients through the common statistics.

    μ = Σ_r n_r μ_r / n        σ² = Σ_r n_r (σ²_r + (μ_r − μ)²) / n        n = Σ_r n_r values of a channel
    ∂L/∂x = w/σ · (dy − Σdy/n − x̂ · Σ(dy·x̂)/n)                            sums over all ranks

One message forward, one backward. The backward ones come in the order in which autograd visits the layers. That
is the same on every rank, as one thread for each device runs the backward pass of graphs that are the same; a
network whose layers depend on the data it sees would break this, and the ranks would wait for each other.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from engine.device.processes import World


def synchronise_batch_norm(module: nn.Module, world: World) -> nn.Module:
    """Let all batch normalisation of a module, or itself, use the statistics of the whole batch; in place.

    For networks, which see a piece of the batch. What a loss normalises is the whole batch already.
    """
    if world.size > 1:
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                # A change of class keeps parameters, buffers, hooks, and every place that refers to the layer.
                part.__class__ = GlobalBatchNorm
                part.process_group = None
    return module


class GlobalBatchNorm(nn.SyncBatchNorm):
    """torch's synchronised batch normalisation on CUDA, and the same on the CPU, which torch's refuses.

    In evaluation mode it is nn.BatchNorm and sends nothing, so ranks may evaluate different numbers of batches;
    with `track_running_stats=False` that means the statistics of the rank's own piece.
    """

    def forward(self, x: Tensor) -> Tensor:
        """B×C, B×C×L or B×C×H×W in, the same shape, dtype and memory format out.

        Raises:
            ValueError: one value for each channel in the whole batch.
        """
        if x.is_cuda or not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        mean, variance, count = _global_statistics(x.detach())
        if count == 1:
            raise ValueError("batch normalisation cannot train on one value for each channel; give a larger batch")
        if self.track_running_stats:
            self._track(mean, variance * (count / (count - 1)))
        return _Normalise.apply(x, self.weight, self.bias, mean, variance, count, self.eps)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        # Without momentum: the plain average of all batches.
        factor = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - factor).add_(mean, alpha=factor)
        self.running_var.mul_(1 - factor).add_(unbiased_variance, alpha=factor)


def _statistics_dtype(x: Tensor) -> torch.dtype:
    """float32 for lower precisions, as nn.BatchNorm."""
    return torch.promote_types(x.dtype, torch.float32)


def _global_statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean (C), biased variance (C) and number of values of each channel, over all ranks."""
    dtype, channels = _statistics_dtype(x), x.shape[1]
    own = torch.zeros(1, 2 * channels + 1, dtype=torch.float64)
    if x.numel():  # a rank may have no rows, but has to take part
        # The kernel of nn.BatchNorm: several times as fast as torch.var_mean.
        mean, variance = torch.batch_norm_update_stats(x.to(dtype), None, None, 0.0)
        own[0, :channels], own[0, channels:-1], own[0, -1] = mean, variance, x.numel() / channels
    every = own.new_empty(dist.get_world_size(), own.shape[1])
    dist.all_gather_into_tensor(every, own)
    means, variances, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
    count = counts.sum()
    mean = (counts * means).sum(dim=0) / count
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / count
    return mean.to(dtype), variance.to(dtype), count.item()


class _Normalise(torch.autograd.Function):
    """w·(x − μ)/√(σ² + ε) + b, where μ and σ² (over `count` values) are those of x on all ranks.

    Its gradients of w and b are those of the rank's own piece, as of every parameter of a network.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, count, eps):
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx, dy):
        x, weight, mean, variance = ctx.saved_tensors
        dtype = _statistics_dtype(x)
        w = torch.ones_like(mean) if weight is None else weight.to(dtype)
        # As if the statistics were constants: dx, and dw = Σ dy·x̂ and db = Σ dy of the own piece.
        dx, dw, db = dy.to(dtype), torch.zeros_like(mean), torch.zeros_like(mean)
        if x.numel():  # the kernel divides by the number of rows
            dx, dw, db = torch.ops.aten.native_batch_norm_backward(
                dx, x.to(dtype), w, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        if ctx.needs_input_grad[0]:
            sums = torch.stack([dw, db])
            dist.all_reduce(sums)
            scale = (variance + ctx.eps).rsqrt()
            slope, offset = w * scale * torch.stack([scale * sums[0], sums[1]]) / ctx.count
            per_channel = (1, -1) + (1,) * (x.dim() - 2)
            dx -= (x - mean.view(per_channel)).mul_(slope.view(per_channel)).add_(offset.view(per_channel))
        dx = dx.to(x.dtype) if ctx.needs_input_grad[0] else None
        if weight is None:
            return dx, None, None, None, None, None, None
        return dx, dw.to(weight.dtype), db.to(weight.dtype), None, None, None, None
