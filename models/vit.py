"""ViT: An Image is Worth 16x16 Words (Dosovitskiy et al., ICLR 2021, arXiv:2010.11929), and DeiT, which adds a
distillation token (Touvron et al., ICML 2021, arXiv:2012.12877).

    X ← [class; (distillation;) patches] + positions
    X ← X + MSA(LN(X)),   X ← X + MLP(LN(X))                 in each block
    z = head(LN(class)),  z_dist = head_dist(LN(distillation))

Parameter names and arithmetic are timm's, so timm's and DeiT's weights load unchanged (`vit_*`, `deit_*` with patch
16; positions are learned for one image size). First values are DeiT's: linear layers, tokens and positions truncated
normal with deviation 0.02.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Features
from models.network import Network
from models.registry import register_model
from models.tokens import LINEAR_STD, Mlp, Stem, init_linear, patches_per_side, stage_ends

EPS = 1e-6


class Attention(nn.Module):
    """Self-attention of `heads` heads, each `head_width` wide."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * heads * head_width)
        self.proj = nn.Linear(heads * head_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """B×T×N to B×T×N, of T tokens and N channels."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        dropped = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped)  # B×heads×T×head_width
        return self.dropout(self.proj(mixed.transpose(1, 2).flatten(2)))


class DropoutMlp(Mlp):
    """The perceptron with dropout behind both linear layers."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """...×width to ...×width."""
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class Block(nn.Module):
    """Attention, then the perceptron, each with pre-norm and residual."""

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads, head_width, dropout)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = DropoutMlp(width, hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """B×T×N to B×T×N, of T tokens and N channels."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


@dataclass(frozen=True)
class VitSizes:
    """The sizes of a vision transformer.

    Attributes:
        width: channels N of a token.
        depth: number of blocks.
        heads: attention heads of a block.
        patch: height and width of a patch in pixels.
        hidden: width inside the perceptron; 4·width by default.
        head_width: of each attention head; width / heads by default.
        dropout: probability behind the attention and inside and behind the perceptron.
    """

    width: int
    depth: int
    heads: int
    patch: int
    hidden: int | None = None
    head_width: int | None = None
    dropout: float = 0.0


class VisionTransformer(Network):
    """ViT, and with `distilled` DeiT.

    Maps are the patch tokens alone. The classifier reads one token and no map, so `last_map` is that token as a map
    of one position (B×N×1×1): methods that look for classes in places find one place.

    With `distilled` there is a second token, and `Features.heads` has the logits of its own head. `logits` are always
    the class head's. The method `deit` trains both heads and predicts by their mean; under any other method the
    second token is one more that the others may attend to, and its head keeps its first weights and is not used.

    Raises:
        RequestError: the image size is no multiple of the patch size.
    """

    classifier_name = "head"

    def __init__(self, sizes: VitSizes, num_classes: int, image_size: int, distilled: bool = False):
        super().__init__()
        width, hidden = sizes.width, sizes.hidden or 4 * sizes.width
        head_width = sizes.head_width or width // sizes.heads
        self.image_size = image_size
        self.grid = patches_per_side(image_size, sizes.patch, "ViT")
        self.own_tokens = 2 if distilled else 1
        self.patch_embed = Stem(sizes.patch, width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.dist_token = nn.Parameter(torch.empty(1, 1, width)) if distilled else None
        self.pos_embed = nn.Parameter(torch.empty(1, self.own_tokens + self.grid**2, width))
        self.blocks = nn.ModuleList(
            Block(width, sizes.heads, head_width, hidden, sizes.dropout) for _ in range(sizes.depth)
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.head = nn.Linear(width, num_classes)
        self.head_dist = nn.Linear(width, num_classes) if distilled else None
        self.further_classifiers = ("head_dist",) if distilled else ()
        self.stage_ends = stage_ends(sizes.depth)
        self.apply(init_linear)
        for parameter in (self.cls_token, self.dist_token, self.pos_embed):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=LINEAR_STD)

    def features(self, x: Tensor) -> Features:
        stem = self.patch_embed(x)
        own = [token.expand(x.shape[0], -1, -1) for token in (self.cls_token, self.dist_token) if token is not None]
        tokens = torch.cat([*own, stem.flatten(2).transpose(1, 2)], dim=1) + self.pos_embed
        maps = []
        for block in self.blocks:
            tokens = block(tokens)
            maps.append(tokens[:, self.own_tokens :].transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        embedding, *further = self.norm(tokens[:, : self.own_tokens]).unbind(dim=1)
        stages = tuple(maps[i] for i in self.stage_ends)
        return Features(
            self.head(embedding),
            embedding,
            stem,
            stages,
            preacts=stages,
            last_map=embedding[:, :, None, None],
            blocks=tuple(maps),
            heads=() if self.head_dist is None else tuple(map(self.head_dist, further)),
            tokens=tuple(further),
        )


def _register(name: str, summary: str, sizes: VitSizes, distilled: bool = False) -> None:
    build = partial(VisionTransformer, sizes, distilled=distilled)
    register_model(name, family="vit", summary=summary, recipe="deit")(build)


for _name, _summary, _sizes in (
    ("vit_pico", "ViT for images of 8 to 16 px: 64 wide, 4 blocks, patch 2", VitSizes(64, 4, 4, 2)),
    ("vit_nano", "ViT 128 wide, 8 blocks, patch 4 (1.6 M parameters at 32 px)", VitSizes(128, 8, 4, 4)),
    ("deit_tiny", "DeiT-Ti/16 (5.7 M at 224 px)", VitSizes(192, 12, 3, 16)),
    ("deit_small", "DeiT-S/16 (22.1 M at 224 px)", VitSizes(384, 12, 6, 16)),
    ("deit_base", "DeiT-B/16, which is ViT-B/16 (86.6 M at 224 px)", VitSizes(768, 12, 12, 16)),
):
    _distilled = f"{_name.replace('vit_', 'deit_')}_distilled"
    _register(_name, _summary, _sizes)
    _register(_distilled, f"{_name} with a distillation token, for --distill deit", _sizes, distilled=True)

# Of The-Learning-Machines/Distillable_ViT, which takes it from vit_pytorch: heads of 64 channels whatever the width.
# There queries, keys and values have no bias.
_register(
    "distillable_vit",
    "ViT of the repository Distillable_ViT: patch 32, 6 blocks, distillation token, dropout 0.1",
    VitSizes(1024, 6, 8, 32, hidden=2048, head_width=64, dropout=0.1),
    distilled=True,
)
