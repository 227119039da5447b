"""Parts that networks of patch tokens share: perceptron, stem, first weights, network of one grid."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from models.features import Features
from models.network import Network
from models.suggestions import suggested

NUM_STAGES = 4  # how many blocks' outputs serve as the stages of a CNN
LINEAR_STD = 0.02


class Mlp(nn.Module):
    """Linear → GELU → Linear over the last dimension.

    Args:
        out: width of the output, `width` by default.
    """

    def __init__(self, width: int, hidden: int, out: int | None = None):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out or width)

    def forward(self, x: Tensor) -> Tensor:
        """...×width to ...×out."""
        return self.fc2(F.gelu(self.fc1(x)))


class Stem(nn.Module):
    """Cuts the image into patches of p×p pixels and embeds each linearly.

    A convolution whose kernel equals its stride is the linear layer of each patch.
    """

    def __init__(self, patch: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×H×W to B×N×(H/p)×(W/p)."""
        return self.proj(x)


def patches_per_side(image_size: int, patch: int, kind: str) -> int:
    """Number of patches along the height and the width of an image.

    Args:
        kind: what the message calls the network.

    Raises:
        RequestError: the patch size does not divide the image size.
    """
    if image_size % patch:
        raise RequestError(
            f"a {kind} with {patch}×{patch} patches cannot cut images of {image_size}×{image_size}; "
            f"choose a network whose patch size divides {image_size}, such as {suggested(kind, image_size)}"
        )
    return image_size // patch


def stage_ends(depth: int) -> list[int]:
    """Positions, from 0, of the blocks that end a stage: up to four of `depth` at even distances, with the last."""
    return sorted({(i + 1) * depth // NUM_STAGES - 1 for i in range(NUM_STAGES)} - {-1})


@dataclass(frozen=True)
class TokenSizes:
    """The sizes of a network of patch tokens.

    Attributes:
        width: channels N of a token.
        depth: number of blocks.
        patch: height and width of a patch in pixels.
    """

    width: int
    depth: int
    patch: int


class TokenNetwork(Network):
    """Stem → `depth` blocks, each B×P×N to B×P×N → norm → mean over the P patches → linear head.

    Its first predictions are uniform: the head starts at zero.

    Args:
        block: makes a block from the number of patches P.
        norm: the norm before the mean.

    Raises:
        RequestError: the image size is no multiple of the patch size.
    """

    classifier_name = "head"
    kind = "MLP"  # what messages call it

    def __init__(
        self,
        block: Callable[[int], nn.Module],
        norm: nn.Module,
        sizes: TokenSizes,
        num_classes: int,
        image_size: int,
    ):
        super().__init__()
        self.image_size = image_size
        self.grid = patches_per_side(image_size, sizes.patch, self.kind)
        self.stem = Stem(sizes.patch, sizes.width)
        self.blocks = nn.ModuleList(block(self.grid**2) for _ in range(sizes.depth))
        self.norm = norm
        self.head = nn.Linear(sizes.width, num_classes)
        self.stage_ends = stage_ends(sizes.depth)
        self.apply(_initialise)
        nn.init.zeros_(self.head.weight)

    def features(self, x: Tensor) -> Features:
        stem = self.stem(x)
        tokens = stem.flatten(2).transpose(1, 2)
        maps = []
        for block in self.blocks:
            tokens = block(tokens)
            maps.append(self._as_map(tokens))
        tokens = self.norm(tokens)
        embedding = tokens.mean(dim=1)
        stages = tuple(maps[i] for i in self.stage_ends)
        last_map = self._as_map(tokens)
        return Features(self.head(embedding), embedding, stem, stages, stages, last_map, tuple(maps))

    def _as_map(self, tokens: Tensor) -> Tensor:
        """B×P×N to B×N×√P×√P."""
        return tokens.transpose(1, 2).unflatten(2, (self.grid, self.grid))


def init_linear(module: nn.Module) -> None:
    """Draw the weights of a linear layer from a normal with deviation 0.02, truncated; biases are zero.

    For `network.apply`; other modules are left alone.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=LINEAR_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        fan_in = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
