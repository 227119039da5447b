"""AB: Knowledge Transfer via Distillation of Activation Boundaries (Heo, Lee, Yun, Choi, AAAI 2019, arXiv:1811.03233).

Before the ReLU, the student s shall lie on the teacher's side of zero, by a margin m = 1:

    ℓ = (s + m)²₊ where t ≤ 0,    (m − s)²₊ where t > 0        (·)₊ = max(·, 0)
    L = 3/1000 · Σ_stages 2^(l−L) · Σ_chw ℓ / B,   l = 1..L

Two stages: first the student's features learn from L alone, through connectors that are then thrown away; then the
whole student learns from the cross-entropy alone. So β has no effect, here as in the published tables. Connectors are
the tables': none between maps of one shape, else FitNets' regressor without its ReLU.

The tables' first stage trains what belongs to the student's stages and keeps the rest in evaluation mode. With a wide
ResNet as the student that changes the last of the compared maps: the batch norm before its ReLU stands behind the last
stage, so it stays as it was made, with mean 0, variance 1, weight 1 and bias 0, and leaves the stage's output x alone:

    s = x / √(1 + 1e-5)

That is the default (`ab_bn` frozen). With `ab_bn` trained that batch norm normalises by the batch and learns like all
others, as in the authors' code, whose first stage trains the whole student. Other students are the same in both forms.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.maps import Regressor, pair_stages
from distiller_zoo.method import Epochs, Method, Pair, Weights
from distiller_zoo.registry import register_method
from models.wrn import WideResNet

MARGIN = 1.0
SCALE = 3 / 1000


def boundary_loss(s: Tensor, t: Tensor, margin: float = MARGIN) -> Tensor:
    """Sum over all neurons of the squared distance to the teacher's side, mean over the batch; both B×C×H×W."""
    distance = torch.where(t > 0, margin - s, margin + s).clamp(min=0)
    return distance.square().sum() / len(s)


class Connector(Regressor):
    """Maps of one shape to maps of another by convolution and batch norm, without an activation."""

    def forward(self, x: Tensor) -> Tensor:
        if self.size:
            x = F.interpolate(x, self.size, mode="bilinear", align_corners=False)
        return self.bn(self.conv(x))


@register_method("abound", aliases=("ab",))
class ActivationBoundaries(Method):
    """Match which neurons fire in each stage, in an initial stage of training; then cross-entropy alone.

    Options:
        init_epochs: epochs of the initial stage.
        ab_bn: in it, the batch norm behind the last stage of a wide ResNet as the student.
    """

    paper = "Heo et al., Knowledge Transfer via Distillation of Activation Boundaries, AAAI 2019"
    weights = Weights(gamma=1, alpha=0, beta=1)
    student_needs = ("preacts", "stages")
    teacher_needs = ("preacts",)
    initial_trains_student = True

    def __init__(self, pair: Pair, *, init_epochs: Epochs = 30, ab_bn: Literal["frozen", "trained"] = "frozen"):
        super().__init__(pair)
        if init_epochs < 1:
            raise RequestError(f"--init_epochs is {init_epochs}; abound teaches in its initial stage, give 1 or more")
        self.initial_epochs = init_epochs
        self.freezes, self.frozen_scale = ab_bn == "frozen", None
        self.pairs = pair_stages(len(pair.student.preacts), len(pair.teacher.preacts))
        shapes = [(pair.student.preacts[i], pair.teacher.preacts[j]) for i, j in self.pairs]
        self.connectors = nn.ModuleList(nn.Identity() if s == t else Connector(s, t) for s, t in shapes)

    def inspect_networks(self, student, teachers):
        if self.freezes and isinstance(student, WideResNet):
            self.frozen_scale = (1 + student.bn1.eps) ** -0.5

    def initial_losses(self, student, teachers, batch):
        (teacher,) = teachers
        maps, output = list(student.preacts), student.stages[-1]
        if self.frozen_scale is not None:
            # The layer itself normalised by the batch. Its running statistics moved too; the main stage forgets that.
            maps[-1] = self.frozen_scale * output
        total, last = 0.0, len(self.pairs) - 1
        for place, (connector, (i, j)) in enumerate(zip(self.connectors, self.pairs, strict=True)):
            total = total + 2.0 ** (place - last) * boundary_loss(connector(maps[i]), teacher.preacts[j])
        return {"abound": SCALE * total}

    def end_initial_stage(self):
        self.connectors.requires_grad_(False)

    def losses(self, student, teachers, batch):
        return {}
