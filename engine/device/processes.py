"""Data parallelism: processes that torchrun started share each batch and end every step with the same network.

Every random number is a function of (seed, purpose, epoch, step), so all ranks draw the same batch. Each passes
its own piece of the images through the networks and gathers the features of the others; every loss is then that
of the whole batch on every rank. So losses that couple samples, memory banks and queues see what one process sees.

    features_r → gather → L(whole batch)         the same L on each of W ranks
    backward of the gather: W × the rank's own slice;   then all gradients are averaged over the ranks

A parameter of the network has only a part g_r of its gradient on each rank: (1/W) Σ_r W·g_r = Σ_r g_r. One of
the loss (a regressor, an embedding) has its whole gradient G on each: (1/W) Σ_r G = G. One rule fits both.

Every rank must make the same calls in the same order; else they wait for each other until `TIMEOUT`.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.errors import RequestError, RunError
from models import Features

# Long enough for rank 0 to fetch a data set while the others wait.
TIMEOUT = timedelta(minutes=30)
# Gradients travel together in buckets of this size: few messages, little memory for the copies.
BUCKET_BYTES = 25 * 2**20


@dataclass(frozen=True)
class World:
    """The processes that train together, as one of them sees them. Alone, every method hands back what it got.

    Attributes:
        rank: which of them this one is, from 0.
        size: how many there are (W).
    """

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def lengths(self, total: int) -> list[int]:
        """How many of `total` rows each rank takes: they differ by at most one, the longer come first."""
        return [total // self.size + (rank < total % self.size) for rank in range(self.size)]

    def shard(self, tensor: Tensor) -> Tensor:
        """This rank's contiguous piece along dim 0 (a view). A batch of fewer rows than ranks leaves some empty."""
        if self.size == 1:
            return tensor
        return tensor.tensor_split(self.size)[self.rank]

    def gather(self, tensor: Tensor, total: int) -> Tensor:
        """The pieces of all ranks, in their order: `total` rows on every rank, in the dtype of the piece.

        In the backward pass a rank takes its own slice times W (see above), with no message to others.

        Raises:
            ValueError: the piece is not as long as `shard` makes it.
        """
        if self.size == 1:
            return tensor
        if len(tensor) != self.lengths(total)[self.rank]:
            raise ValueError(f"rank {self.rank} of {self.size} holds {len(tensor)} of {total} rows")
        return _Gather.apply(tensor, self, total)

    def gather_features(self, features: Features, total: int) -> Features:
        """All tensors of the record gathered; what is None stays None."""
        if self.size == 1:
            return features

        def gather(value):
            if value is None:
                return None
            return self.gather(value, total) if isinstance(value, Tensor) else tuple(map(gather, value))

        return Features(**{f.name: gather(getattr(features, f.name)) for f in fields(features)})

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks; all get the same bits, so the replicas never part.

        Parameters without a gradient are left out: all ranks compute the same losses, so they are the same on all.
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
        """The sum over the ranks, without gradient: for totals of an evaluation."""
        if self.size == 1:
            return tensor
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        """Whether any rank says so. Goes from host to host, so it waits for no GPU."""
        if self.size == 1:
            return flag
        verdict = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(verdict, dist.ReduceOp.MAX)
        return bool(verdict.item())

    @torch.no_grad()
    def broadcast(self, module: nn.Module) -> None:
        """Give all ranks the parameters and buffers of rank 0."""
        if self.size == 1:
            return
        for tensor in chain(module.parameters(), module.buffers()):
            packed = tensor.contiguous()
            dist.broadcast(packed, src=0)
            tensor.copy_(packed)

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that all ranks leave together, and with an error where one of them has one.

        Raises:
            RequestError, RunError: of this rank; RunError where it is another's.
        """
        error = None
        try:
            yield
        except (RequestError, RunError) as raised:
            error = raised
        if self.any(error is not None):
            raise error or RunError("another process of this run failed; it says why")


ALONE = World()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, world: World, total: int) -> Tensor:
        ctx.world = world
        return _collect(tensor, world.lengths(total))

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return ctx.world.size * ctx.world.shard(gradient), None, None


def _collect(tensor: Tensor, lengths: Sequence[int]) -> Tensor:
    """The pieces of all ranks in one tensor. Maps (4 dimensions) arrive in channels-last order."""
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
    """Groups of one dtype, of `BUCKET_BYTES` at most unless one tensor alone is larger."""
    bucket: list[Tensor] = []
    for tensor in sorted(tensors, key=lambda t: str(t.dtype)):
        mixed = bucket and tensor.dtype != bucket[0].dtype
        if mixed or (bucket and sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET_BYTES):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


@contextmanager
def joined_world(device_type: str) -> Iterator[World]:
    """Join the processes that torchrun started; leave them at the end of the block. Without torchrun: alone.

    CPU tensors go by gloo, CUDA tensors by NCCL; the process's CUDA device is that of its LOCAL_RANK.

    Args:
        device_type: "cpu" or "cuda".

    Raises:
        RequestError: more processes than CUDA devices, or they do not find each other.
    """
    rank, size, local_rank = _places()
    if size == 1:
        yield ALONE
        return
    backend = "gloo"
    if device_type == "cuda":
        devices = torch.cuda.device_count()
        if local_rank >= devices:
            raise RequestError(
                f"torchrun started process {local_rank + 1} on a machine with {devices} CUDA devices; "
                f"give it --nproc_per_node {devices}, or add --device cpu to the script"
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(
            f"rank {rank} cannot join the {size} processes ({reason}); start them all with torchrun"
        ) from error
    try:
        yield World(rank, size)
    finally:
        # After an error too: the others then end with "connection closed" instead of waiting for this one.
        dist.destroy_process_group()


def several_processes() -> bool:
    """Whether torchrun started this process as one of several. Raises RequestError where it cannot be told."""
    return _places()[1] > 1


def _places() -> tuple[int, int, int]:
    """RANK, WORLD_SIZE and LOCAL_RANK as torchrun sets them; a process that lacks one of them is alone.

    Some clusters set the first two on their own account, for machines rather than processes.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    found = [os.environ.get(name) for name in names]
    if None in found:
        return 0, 1, 0
    try:
        rank, size, local_rank = map(int, found)
    except ValueError:
        said = ", ".join(f"{name}={value}" for name, value in zip(names, found, strict=True))
        raise RequestError(f"{said} are no numbers; start with torchrun, which sets them, or unset them") from None
    return rank, size, local_rank
