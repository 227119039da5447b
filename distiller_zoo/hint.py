"""FitNet: FitNets: Hints for Thin Deep Nets (Romero et al., ICLR 2015, arXiv:1412.6550), eq. 3.

    L_hint = mean( (r(f_s) − f_t)² ),   r a convolutional regressor

The paper trains the hint as a first stage, up to the guided layer, and distils predictions afterwards. The default
is the one-stage form of the published tables, where the hint loss is added to the cross-entropy for the whole
run; `--hint_epochs N` gives the paper's, with N epochs of hints (add `-a` for its second stage's KD).
"""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from common.errors import RequestError
from distiller_zoo.maps import Regressor
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Epochs, Range
from distiller_zoo.registry import register_method
from models import Features


@register_method("hint", aliases=("fitnet",))
class Hint(Method):
    """MSE between one teacher map and the student's regressed map.

    Options:
        hint_layer: the map that is matched: 0 is the stem, 1 the first stage, and so on; the same on both sides.
        hint_epochs: epochs of a first stage that trains on the hint alone; 0: no such stage, the hint has no end.
    """

    paper = "Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015"
    weights = Weights(gamma=1, alpha=0, beta=100)
    needs = ("stem", "stages")
    reads_teacher_logits = False
    initial_trains_student = True

    def __init__(self, pair: Pair, *, hint_layer: Annotated[int, Range(0, 1000)] = 2, hint_epochs: Epochs = 0):
        super().__init__(pair)
        self.initial_epochs = hint_epochs
        shapes_s = (pair.student.stem, *pair.student.stages)
        shapes_t = (pair.teacher.stem, *pair.teacher.stages)
        last = min(len(shapes_s), len(shapes_t)) - 1
        if not 0 <= hint_layer <= last:
            raise RequestError(f"--hint_layer is {hint_layer}; this pair has 0 (stem) to {last}, choose one of these")
        self.layer = hint_layer
        self.regressor = Regressor(shapes_s[hint_layer], shapes_t[hint_layer])

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        return {} if self.initial_epochs else self.initial_losses(student, teachers, batch)

    def initial_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        return {self.name: self.loss(student, teachers[0], batch)}

    def end_initial_stage(self) -> None:
        self.regressor.requires_grad_(False)  # nothing uses it any more

    def loss(self, student: Features, teacher: Features, batch: Batch) -> Tensor:
        f_s = (student.stem, *student.stages)[self.layer]
        f_t = (teacher.stem, *teacher.stages)[self.layer]
        return F.mse_loss(self.regressor(f_s), f_t)
