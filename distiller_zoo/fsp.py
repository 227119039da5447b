"""FSP: A Gift from Knowledge Distillation (Yim, Joo, Bae, Kim, CVPR 2017), eq. 1-2.

The flow between two neighbouring maps f (bottom) and g (top) of one network, averaged over positions:

    G_cc' = mean_hw g_c·f_c',    L = Σ_neighbours mean( (G_s − G_t)² )

Two stages: first the student's features learn from L alone, then the whole student from the cross-entropy alone, as in
the paper and in the published tables (whose β therefore has no effect). `--fsp_main` keeps β·L in the second
stage. Maps of two sizes are brought to the smaller by average pooling, as in the tables' code; the paper takes maxima.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from common.errors import RequestError
from distiller_zoo.maps import to_common_size
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Epochs
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features


def flow_matrix(bottom: Tensor, top: Tensor) -> Tensor:
    """G, B×C_top×C_bottom: mean products over positions of the channels of two B×C×H×W maps of one network."""
    bottom, top = (f.flatten(2) for f in to_common_size(bottom, top))
    return top @ bottom.mT / bottom.shape[2]


def fsp_loss(maps_s: tuple[Tensor, ...], maps_t: tuple[Tensor, ...]) -> Tensor:
    """Sum over neighbouring maps of the mean squared difference of their flows in student and teacher.

    Args:
        maps_s, maps_t: B×C×H×W each, the stem first; equal channels in both networks.
    """
    flows_s, flows_t = ([flow_matrix(*pair) for pair in pairwise(maps)] for maps in (maps_s, maps_t))
    return summed(F.mse_loss(s, t) for s, t in zip(flows_s, flows_t, strict=True))


@register_method("fsp")
class FSP(Method):
    """Match the products of neighbouring maps, in an initial stage; then cross-entropy alone.

    Options:
        init_epochs: epochs of the initial stage.
        fsp_main: add the loss to the cross-entropy after the initial stage too.
    """

    paper = "Yim et al., A Gift from Knowledge Distillation, CVPR 2017"
    weights = Weights(gamma=1, alpha=0, beta=50)
    refuses = "pairs of unlike widths: stem and stages must have the same channels in student and teacher"
    needs = ("stem", "stages")
    reads_teacher_logits = False
    initial_trains_student = True

    def __init__(self, pair: Pair, *, init_epochs: Epochs = 30, fsp_main: bool = False):
        super().__init__(pair)
        if init_epochs < 0 or (init_epochs == 0 and not fsp_main):
            raise RequestError(
                f"--init_epochs is {init_epochs}; fsp teaches in its initial stage, so give 1 or more, "
                f"or --fsp_main to teach in the main one"
            )
        widths_s, widths_t = (
            [shape[0] for shape in (side.stem, *side.stages)] for side in (pair.student, pair.teacher)
        )
        if widths_s != widths_t:
            raise RequestError(
                f"fsp compares channels with channels, so stem and stages of student ({_listed(widths_s)}) and teacher "
                f"({_listed(widths_t)}) must be equally wide; choose a student of the teacher's family and width"
            )
        self.initial_epochs, self.in_main_stage = init_epochs, fsp_main

    def initial_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        (teacher,) = teachers
        return {"fsp": fsp_loss((student.stem, *student.stages), (teacher.stem, *teacher.stages))}

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        return self.initial_losses(student, teachers, batch) if self.in_main_stage else {}


def _listed(widths: list[int]) -> str:
    return "-".join(map(str, widths))
