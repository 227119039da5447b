"""STD's module: tokens that read the patches of one block, and the heads that classify them (see std.py).

With M teachers a module holds M pairs of tokens that share the perceptrons' hidden layer and have an output row each,
so their updates differ. All of it is a branch: the patches are read and never changed.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TOKEN_STD = 0.02

Kinds = Literal["both", "spatial", "channel", "none"]


class Tokens(NamedTuple):
    """M tokens of each kind; a kind that a module does without is None."""

    spatial: Tensor | None  # B×M×N
    channel: Tensor | None  # B×P×M


class TokenMlp(nn.Module):
    """LayerNorm over the channels, then a two-layer perceptron that computes the tokens alone.

    Args:
        normalised: width that is normalised.
        mixed: length of the dimension that is mixed; that dimension comes last in the perceptron.
        hidden: width of the hidden layer.
        tokens: number of outputs.
    """

    def __init__(self, normalised: int, mixed: int, hidden: int, tokens: int = 1):
        super().__init__()
        self.norm = nn.LayerNorm(normalised, eps=1e-6)
        self.fc1 = nn.Linear(mixed, hidden)
        self.fc2 = nn.Linear(hidden, tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


@dataclass(frozen=True)
class ModuleForm:
    """The parts of a module.

    Attributes:
        kinds: which tokens there are. With "none" the heads read the mean of the patches.
        pairs: M, how many tokens of each kind.
        layers: how many perceptrons refine a token, one after the other.
        own_tokens: whether it starts from its own tokens, or from those that `forward` is given.
        heads: whether it has heads, or hands its tokens on alone.
    """

    kinds: Kinds = "both"
    pairs: int = 1
    layers: int = 1
    own_tokens: bool = True
    heads: bool = True


class SpatialChannelModule(nn.Module):
    """Tokens on one block and one linear head for each pair of them.

    Args:
        patches, channels: P and N, the size of the block's output.
    """

    def __init__(self, patches: int, channels: int, num_classes: int, form: ModuleForm | None = None):
        super().__init__()
        form = form or ModuleForm()
        pairs = form.pairs
        spatial, channel = form.kinds in ("both", "spatial"), form.kinds in ("both", "channel")
        self.spatial_token = _token(1, pairs, channels) if spatial and form.own_tokens else None
        self.channel_token = _token(1, patches, pairs) if channel and form.own_tokens else None
        self._spatial_mlps = tuple(
            TokenMlp(channels, patches + pairs, channels // 2, pairs) for _ in range(form.layers * spatial)
        )
        self._channel_mlps = tuple(
            TokenMlp(channels + pairs, channels + pairs, 4 * channels, pairs) for _ in range(form.layers * channel)
        )
        self.spatial, self.channel = nn.ModuleList(self._spatial_mlps), nn.ModuleList(self._channel_mlps)
        width = channels * spatial + patches * channel or channels
        self.heads = nn.ModuleList(nn.Linear(width, num_classes) for _ in range(pairs if form.heads else 0))

    def forward(self, block: Tensor, start: Tokens | None = None) -> tuple[Tokens, tuple[Tensor, ...]]:
        """Tokens of the B×N×H×W output of a block, and the input of each head, B×(N+P).

        Args:
            start: the tokens of the module before; None for a module that has its own.
        """
        z = block.flatten(2).transpose(1, 2)  # B×P×N
        spatial, channel = start or (self.spatial_token, self.channel_token)
        parts = []
        if self._spatial_mlps and spatial is not None:
            spatial = spatial.to(z.dtype).expand(z.shape[0], -1, -1)
            for mlp in self._spatial_mlps:
                rows = mlp.norm(torch.cat([z, spatial], dim=1))
                spatial = spatial + mlp(rows.transpose(1, 2)).transpose(1, 2)
            parts.append(spatial.unbind(1))
        if self._channel_mlps and channel is not None:
            channel = channel.to(z.dtype).expand(z.shape[0], -1, -1)
            for mlp in self._channel_mlps:
                channel = channel + mlp(mlp.norm(torch.cat([z, channel], dim=2)))
            parts.append(channel.unbind(2))
        if not parts:
            return Tokens(None, None), (z.mean(dim=1),) * len(self.heads)
        return Tokens(spatial, channel), tuple(torch.cat(pair, dim=1) for pair in zip(*parts, strict=True))

    def classify(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """B×K logits of each head, from its input of `forward`."""
        return tuple(head(x) for head, x in zip(self.heads, inputs, strict=True))


def _token(*shape: int) -> nn.Parameter:
    token = nn.Parameter(torch.empty(shape))
    nn.init.trunc_normal_(token, std=TOKEN_STD)
    return token
