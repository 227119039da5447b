"""Data parallelism: several processes share each batch and end every step with the same network.

Every random number is a function of (seed, purpose, epoch, step), so all ranks draw the same batch. Each passes its own
piece of the images through the networks and gathers the features of the others; every loss is then that of the whole
batch on every rank. So losses that couple samples, memory banks and queues get what they get in one process.

    features_r → gather → L(whole batch)         the same L on each of W ranks
    backward of the gather: W × the rank's own slice;   then all gradients are averaged over the ranks

A parameter of the network has only a part g_r of its gradient on each rank: (1/W) Σ_r W·g_r = Σ_r g_r. One of the loss
(a regressor, an embedding) has its whole gradient G on each: (1/W) Σ_r G = G. One rule fits both.

Every rank must make the same calls in the same order; otherwise they wait for each other until a time-out.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.errors import DataError, RequestError, RunError
from models import Features

# Gradients travel together in buckets of this size: few messages, little memory for the copies.
BUCKET_BYTES = 25 * 2**20


@dataclass(frozen=True)
class World:
    """The processes that train together, from the view of one of them. In a single one all methods are identities.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes (W).
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0

    def shard_sizes(self, total: int) -> list[int]:
        """Number of rows of each rank's piece of `total` rows; they differ by at most one, larger ones come first."""
        return [total // self.size + (rank < total % self.size) for rank in range(self.size)]

    def shard(self, tensor: Tensor) -> Tensor:
        """View of this rank's contiguous piece along dim 0. A batch of fewer rows than ranks leaves some empty."""
        if self.size == 1:
            return tensor
        return tensor.tensor_split(self.size)[self.rank]

    def gather(self, tensor: Tensor, total: int) -> Tensor:
        """Concatenate the pieces of all ranks: `total` rows on every rank, in the dtype of the piece.

        In the backward pass a rank takes its own slice times W (see above), with no message to others.

        Raises:
            ValueError: the piece does not have as many rows as `shard` gives.
        """
        if self.size == 1:
            return tensor
        if len(tensor) != self.shard_sizes(total)[self.rank]:
            raise ValueError(f"rank {self.rank} of {self.size} holds {len(tensor)} of {total} rows")
        return _Gather.apply(tensor, self, total)

    def gather_features(self, features: Features, total: int) -> Features:
        """Gather every tensor of the record."""
        return features if self.size == 1 else features.map(lambda piece: self.gather(piece, total))

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks, with the same bits on all, so that replicas stay equal.

        Parameters without a gradient are skipped: all ranks compute the same losses, so these are the same everywhere.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            flat /= self.size
            for gradient, mean in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    @torch.no_grad()
    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, without gradient: for totals of an evaluation."""
        if self.size == 1:
            return tensor
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """True on all ranks if `flag` is true on one. Travels between CPUs, so it waits for no GPU."""
        if self.size == 1:
            return flag
        highest = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        return bool(highest.item())

    def agree(self, text: str) -> bool:
        """True on all ranks if all have the same text."""
        if self.size == 1:
            return True
        number = int(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:15], 16)
        both = torch.tensor([number, -number])
        dist.all_reduce(both, dist.ReduceOp.MAX)
        return bool(both.sum() == 0)  # the largest is the smallest

    @torch.no_grad()
    def broadcast(self, module: nn.Module) -> None:
        """Copy the parameters and buffers of rank 0 to all ranks."""
        if self.size == 1:
            return
        for tensor in chain(module.parameters(), module.buffers()):
            packed = tensor.contiguous()
            dist.broadcast(packed, src=0)
            tensor.copy_(packed)

    @contextmanager
    def shared_errors(self) -> Iterator[None]:
        """A block that fails on all ranks if it fails on one.

        Raises:
            RequestError, RunError: this rank's own error; RunError if another failed, or DataError if it had one.
        """
        error: RequestError | RunError | None = None
        try:
            yield
        except (RequestError, RunError) as raised:
            error = raised
        if self.any(error is not None):
            kind = DataError if self.any(isinstance(error, DataError)) else RunError
            raise error or kind("another process of this run failed; its own message says why")


SINGLE_PROCESS = World()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, world: World, total: int) -> Tensor:
        ctx.world = world
        return _collect(tensor, world.shard_sizes(total))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.world.size * ctx.world.shard(gradient), None, None


def _collect(tensor: Tensor, lengths: Sequence[int]) -> Tensor:
    """Concatenate the pieces of all ranks. Maps (4 dimensions) arrive in channels-last order."""
    if tensor.dim() == 4:
        # Not as their strides say: those of a piece of one row or none are ambiguous, and the ranks must agree.
        return _collect_rows(tensor.permute(0, 2, 3, 1), lengths).permute(0, 3, 1, 2)
    return _collect_rows(tensor, lengths)


def _collect_rows(tensor: Tensor, lengths: Sequence[int]) -> Tensor:
    longest = max(lengths)
    if len(tensor) < longest:  # the backends want pieces of one size
        tensor = torch.cat([tensor, tensor.new_zeros(longest - len(tensor), *tensor.shape[1:])])
    pieces = tensor.new_empty(len(lengths) * longest, *tensor.shape[1:])
    dist.all_gather_into_tensor(pieces, tensor.contiguous())
    if min(lengths) == longest:
        return pieces
    return torch.cat([piece[:length] for piece, length in zip(pieces.split(longest), lengths, strict=True)])


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors of one dtype, up to `BUCKET_BYTES` a group unless a single tensor is larger."""
    bucket: list[Tensor] = []
    for tensor in sorted(tensors, key=lambda t: str(t.dtype)):
        mixed = bucket and tensor.dtype != bucket[0].dtype
        if mixed or (bucket and sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET_BYTES):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
