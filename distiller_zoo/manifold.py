"""Manifold distillation: Learning Efficient Vision Transformers via Fine-Grained Manifold Distillation (Hao, Guo, Jia,
Han, Tang, Zhang, Hu, Wang, NeurIPS 2022, arXiv:2107.01378).

Patches (positions of a map), each of unit length, and their cosines M, compared between student and teacher:

    L = mean over stages of  w_p·patch + w_s·sample + w_r·random,   each the mean of (M_t − M_s)²

patch: all patches of a sample; sample: the same patch of all samples; random: K patches of the batch, drawn anew for
each stage. Channels may differ; where sizes do, the larger map is pooled to the smaller, so a CNN can teach an MLP.
The paper distils transformers on ImageNet, from its first four and last four blocks; no settings for CIFAR-100 are
published. Those here are the authors' for DeiT-Ti: γ = 0, α = β = 1, where KL is at temperature 1 (--kd_T 1).
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from distiller_zoo.maps import pair_stages, to_common_size
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import PartWeight, Range
from distiller_zoo.registry import register_method
from models import Features


def patches(f: Tensor) -> Tensor:
    """B×P×C patches of unit length of a B×C×H×W map."""
    return F.normalize(f.flatten(2).transpose(1, 2), dim=2)


def manifold_loss(p_s: Tensor, p_t: Tensor) -> Tensor:
    """Mean squared difference of the cosines among the rows of ...×R×C unit vectors; widths C may differ."""
    rows = p_s.shape[-2]
    if rows <= p_s.shape[-1] + p_t.shape[-1]:
        return F.mse_loss(p_s @ p_s.mT, p_t @ p_t.mT)
    # The maps of a CNN's first stages have many positions and few channels: ⟨a·aᵀ, b·bᵀ⟩ = ‖aᵀ·b‖² spares R×R.
    squares = squared_product(p_s, p_s) + squared_product(p_t, p_t) - 2 * squared_product(p_s, p_t)
    return squares.mean() / rows**2


def squared_product(a: Tensor, b: Tensor) -> Tensor:
    """‖aᵀ·b‖² of matrices ...×R×C and ...×R×C'."""
    return (a.mT @ b).square().sum(dim=(-2, -1))


def stage_losses(p_s: Tensor, p_t: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The losses patch, sample and random of one stage, from B×P×C and B×P×C' patches.

    Args:
        drawn: K, int64: the patches that `random` compares, as positions in the batch's B·P.
    """
    return (
        manifold_loss(p_s, p_t),
        manifold_loss(p_s.transpose(0, 1), p_t.transpose(0, 1)),
        manifold_loss(p_s.flatten(0, 1)[drawn], p_t.flatten(0, 1)[drawn]),
    )


@register_method("manifold")
class Manifold(Method):
    """Relations between patches: within a sample, across samples, and among random ones.

    Options:
        manifold_patch: w_p, weight of the relations between the patches of a sample.
        manifold_sample: w_s, weight of the relations between the same patches of all samples.
        manifold_random: w_r, weight of the relations between random patches.
        manifold_k: K, number of random patches; at most as many as the batch has.
    """

    paper = "Hao et al., Learning Efficient Vision Transformers via Fine-Grained Manifold Distillation, NeurIPS 2022"
    weights = Weights(gamma=0, alpha=1, beta=1)
    weights_from = "the authors' for DeiT-Ti on ImageNet, where KL is at temperature 1: add `--kd_T 1`"
    needs = ("stages",)
    reads_teacher_logits = False

    def __init__(
        self,
        pair: Pair,
        *,
        manifold_patch: PartWeight = 4.0,
        manifold_sample: PartWeight = 0.1,
        manifold_random: PartWeight = 0.2,
        manifold_k: Annotated[int, Range(2, 65_536)] = 192,
    ):
        super().__init__(pair)
        self.w_patch, self.w_sample, self.w_random = manifold_patch, manifold_sample, manifold_random
        self.k = manifold_k

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        (teacher,) = teachers
        generator = batch.generator("manifold")
        of_stages = []
        for i, j in pair_stages(len(student.stages), len(teacher.stages)):
            p_s, p_t = map(patches, to_common_size(student.stages[i], teacher.stages[j]))
            drawn = torch.randperm(p_s.shape[0] * p_s.shape[1], generator=generator, device=p_s.device)[: self.k]
            of_stages.append(torch.stack(stage_losses(p_s, p_t, drawn)))
        patch, sample, random = torch.stack(of_stages).mean(dim=0)
        return {
            "manifold_patch": self.w_patch * patch,
            "manifold_sample": self.w_sample * sample,
            "manifold_random": self.w_random * random,
        }
