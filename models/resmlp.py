"""ResMLP: Feedforward networks for image classification with data-efficient training (Touvron et al., TPAMI 2022,
arXiv:2105.03404).

    X ← X + s1·W·Aff1(X)                     one P×P layer over the patches
    X ← X + s2·MLP(Aff2(X))                  a perceptron over the channels, 4 times as wide inside
    Aff(x) = α·x + β                         a scale and a shift for each channel in place of a norm

Parameter names and arithmetic are timm's, so timm's ResMLP weights load unchanged (`resmlp_12_224`, `resmlp_24_224`;
timm's large one has patches of 8, `resmlp_b24` those of 16 of the STD paper). Linear weights start as the Mixer's, as
in timm; s1 and s2 start where the authors' do, at 0.1 in 12 blocks and at 1e-5 (S) or 1e-6 (B) in 24. The networks for
small images are our own; in the one of 4 blocks s1 and s2 start at 1, for 0.1 would nearly switch so few blocks off.
"""

from functools import partial

import torch
from torch import Tensor, nn

from models.registry import register_model
from models.tokens import Mlp, TokenNetwork, TokenSizes


class Affine(nn.Module):
    """α·x + β for each channel."""

    def __init__(self, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """B×P×N to B×P×N, of P patches and N channels."""
        return torch.addcmul(self.beta, self.alpha, x)


class ResBlock(nn.Module):
    """Patches mixed by one layer, then channels by a perceptron.

    Args:
        scale: first value of the residual branches' factor for each channel (LayerScale).
    """

    def __init__(self, patches: int, width: int, scale: float):
        super().__init__()
        self.norm1 = Affine(width)
        self.linear_tokens = nn.Linear(patches, patches)
        self.norm2 = Affine(width)
        self.mlp_channels = Mlp(width, 4 * width)
        self.ls1 = nn.Parameter(torch.full((width,), scale))
        self.ls2 = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """B×P×N to B×P×N, of P patches and N channels."""
        x = x + self.ls1 * self.linear_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.ls2 * self.mlp_channels(self.norm2(x))


class ResMLP(TokenNetwork):
    """ResMLP of `depth` blocks, `width` channels and square patches of `patch` pixels; `scale` as in `ResBlock`.

    Raises:
        RequestError: the image size is no multiple of the patch size.
    """

    kind = "ResMLP"

    def __init__(self, width: int, depth: int, patch: int, scale: float, num_classes: int, image_size: int):
        super().__init__(
            partial(ResBlock, width=width, scale=scale),
            Affine(width),
            TokenSizes(width, depth, patch),
            num_classes,
            image_size,
        )


def _register(name: str, width: int, depth: int, patch: int, scale: float, summary: str) -> None:
    register_model(name, family="resmlp", summary=summary, recipe="deit")(partial(ResMLP, width, depth, patch, scale))


_register("resmlp_pico", 64, 4, 2, 1.0, "ResMLP for images of 8 to 16 px: 64 wide, 4 blocks, patch 2")
_register("resmlp_nano", 128, 8, 4, 0.1, "ResMLP 128 wide, 8 blocks, patch 4 (1.1 M parameters at 32 px)")
_register("resmlp_s12_p4", 384, 12, 4, 0.1, "ResMLP-S12 with patch 4 (14.3 M at 32 px)")
_register("resmlp_s12", 384, 12, 16, 0.1, "ResMLP-S12 (15.4 M at 224 px)")
_register("resmlp_s24", 384, 24, 16, 1e-5, "ResMLP-S24 (30.0 M at 224 px)")
_register("resmlp_b24", 768, 24, 16, 1e-6, "ResMLP-B24 with patch 16 (115.7 M at 224 px)")
