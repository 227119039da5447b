"""FT: Paraphrasing Complex Network: Network Compression via Factor Transfer (Kim, Park, Kwak, NeurIPS 2018,
arXiv:1802.04977).

A paraphraser, an autoencoder D∘E of the teacher's last stage, learns alone in an initial stage and is then frozen. A
translator R of the student's last stage learns its factors, together with the student:

    L_initial = mean( (D(E(f_t)) − f_t)² ),    L = mean | n(R(f_s)) − n(E(f_t)) |

n is the attention map, as in the published tables: the mean over channels of the squares, of unit length over
positions. In the paper (`--ft_form paper`; β = 500 in its code) it is the whole factor, of unit length.

The initial stage has a learning rate of 0.01 at most. The published tables have that for resnet and wrn students and
the recipe's for others: 0.01 again for MobileNetV2, ShuffleV1 and ShuffleV2, but 0.05 for vgg.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.attention import attention_map
from distiller_zoo.maps import to_common_size
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Epochs, Range
from distiller_zoo.registry import register_method
from models import Features

SLOPE = 0.1


def whole_factor(f: Tensor) -> Tensor:
    """B×(C·H·W) values of a B×C×H×W factor, of unit length per sample."""
    return F.normalize(f.flatten(1))


NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {"repdistiller": attention_map, "paper": whole_factor}


def factor_loss(factor_s: Tensor, factor_t: Tensor, normalise: Callable[[Tensor], Tensor] = attention_map) -> Tensor:
    """Mean absolute difference of two normalised B×C×H×W factors; the larger is pooled to the smaller."""
    s, t = to_common_size(factor_s, factor_t)
    return F.l1_loss(normalise(s), normalise(t))


def _encoder(channels: int, width: int, norm: bool) -> nn.Sequential:
    """Three 3×3 convolutions, B×channels×H×W to B×width×H×W, with batch norm for the translator."""
    layers: list[nn.Module] = []
    for c_in, c_out in ((channels, channels), (channels, width), (width, width)):
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1)]
        layers += [nn.BatchNorm2d(c_out)] if norm else []
        layers += [nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


class Paraphraser(nn.Module):
    """Autoencoder D∘E of teacher maps B×C×H×W, with a bottleneck of `width` channels."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.encoder = _encoder(channels, width, norm=False)
        layers: list[nn.Module] = []
        for c_in, c_out in ((width, width), (width, channels), (channels, channels)):
            layers += [nn.ConvTranspose2d(c_in, c_out, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.decoder = nn.Sequential(*layers)

    def forward(self, f_t: Tensor) -> Tensor:
        return self.decoder(self.encoder(f_t))


@register_method("factor", aliases=("ft",))
class FactorTransfer(Method):
    """Match what an autoencoder of the teacher's last stage finds in it.

    Options:
        init_epochs: epochs of the initial stage, which trains the paraphraser.
        ft_rate: channels of a factor, as a share of the teacher's.
        ft_form: factors are compared as in the published tables (`repdistiller`) or as in the paper.
    """

    paper = "Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer, NeurIPS 2018"
    weights = Weights(gamma=1, alpha=0, beta=200)
    needs = ("stages",)
    reads_teacher_logits = False
    max_initial_rate = 0.01

    def __init__(
        self,
        pair: Pair,
        *,
        init_epochs: Epochs = 30,
        ft_rate: Annotated[float, Range(0, 64, open_below=True)] = 0.5,
        ft_form: Literal["repdistiller", "paper"] = "repdistiller",
    ):
        super().__init__(pair)
        if init_epochs < 1:
            raise RequestError(f"--init_epochs is {init_epochs}; the paraphraser has to be trained, give 1 or more")
        channels_s, channels_t = pair.student.stages[-1][0], pair.teacher.stages[-1][0]
        width = int(channels_t * ft_rate)
        if width < 1:
            raise RequestError(f"--ft_rate {ft_rate} of {channels_t} channels is none; give 0.5, say")
        self.initial_epochs, self.normalise = init_epochs, NORMALISATIONS[ft_form]
        self.paraphraser = Paraphraser(channels_t, width)
        self.translator = _encoder(channels_s, width, norm=True)

    def initial_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        f_t = teachers[0].stages[-1]
        return {"paraphraser": F.mse_loss(self.paraphraser(f_t), f_t)}

    def end_initial_stage(self) -> None:
        self.paraphraser.requires_grad_(False)

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        with torch.no_grad():
            factor_t = self.paraphraser.encoder(teacher.stages[-1])
        return factor_loss(self.translator(student.stages[-1]), factor_t, self.normalise)
