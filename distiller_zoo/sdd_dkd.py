"""SD-DKD: Scale Decoupled Distillation (Wei, Luo, Luo, CVPR 2024, arXiv:2403.13512) with DKD's loss.

Regions and their weights are those of sdd.py, the loss of each region is DKD's (dkd.py), with its warm-up:

    L = min(epoch/warmup, 1) · mean over samples and regions of  w_r·( α·TCKD(z_s,r, z_t,r) + β·NCKD(z_s,r, z_t,r) )
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from distiller_zoo.dkd import nckd_of_each, tckd_of_each
from distiller_zoo.method import Batch, Pair, Weights
from distiller_zoo.option_types import Epochs, OnlyWith, PartWeight, Temperature, Weight
from distiller_zoo.predictions import warm_up
from distiller_zoo.registry import register_method
from distiller_zoo.sdd import SDD, region_weights
from models import Features

LossOfSamples = Callable[[Tensor, Tensor, Tensor, float], Tensor]  # two N×K logits, N labels, temperature → N losses


def of_each_region(
    loss: LossOfSamples, logits_s: Tensor, logits_t: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """R×B losses of R×B×K logits and labels B, by a loss of single samples."""
    count = len(logits_s)
    flat = loss(logits_s.flatten(0, 1), logits_t.flatten(0, 1), labels.repeat(count), temperature)
    return flat.view(count, -1)


@dataclass(frozen=True)
class DKDOptions:
    """Options of sdd_dkd: DKD's, with the values published for regions (explained at `SDDWithDKD`)."""

    dkd_alpha: PartWeight = 1.0
    dkd_beta: PartWeight = 8.0
    dkd_T: Temperature = 4.0
    dkd_warmup: Epochs = 20


@register_method("sdd_dkd")
class SDDWithDKD(SDD):
    """DKD of every region of the image.

    Options:
        sdd_scales: cells along each side of the grids that the last map is cut into; 1 is the whole image.
        sdd_complementary: weight of a complementary region; the others have 1.
        dkd_alpha: weight of the target class within the method's loss.
        dkd_beta: weight of the other classes within the method's loss.
        dkd_T: temperature of both predictions.
        dkd_warmup: epochs over which the loss grows to its full weight; 0: none.
    """

    weights = Weights(gamma=1, alpha=0, beta=1)

    def __init__(
        self,
        pair: Pair,
        *,
        sdd_scales: Literal["1", "1,2", "1,2,4"] = "1,2",
        sdd_complementary: Annotated[Weight, OnlyWith("sdd_scales", ("1,2", "1,2,4"))] = 2.0,
        dkd: DKDOptions,
    ):
        super().__init__(pair, sdd_scales=sdd_scales, sdd_complementary=sdd_complementary, sdd_T=dkd.dkd_T)
        self.target_weight, self.others_weight, self.warmup = dkd.dkd_alpha, dkd.dkd_beta, dkd.dkd_warmup

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        logits_s, logits_t = self.regions(student, teacher)
        inputs = (self.standardise(logits_s), self.standardise(logits_t), batch.main_labels, self.temperature)
        dkd = self.target_weight * of_each_region(tckd_of_each, *inputs)
        dkd = dkd + self.others_weight * of_each_region(nckd_of_each, *inputs)
        weights = region_weights(logits_t, batch.main_labels, self.complementary)
        return warm_up(batch.epoch, self.warmup) * (weights * dkd).mean()
