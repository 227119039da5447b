"""AB: Knowledge Transfer via Distillation of Activation Boundaries (Heo, Lee, Yun, Choi, AAAI 2019, arXiv:1811.03233).

Before the ReLU, the student s shall lie on the teacher's side of zero, by a margin m = 1:

    ℓ = (s + m)²₊ where t ≤ 0,    (m − s)²₊ where t > 0        (·)₊ = max(·, 0)
    L = 3/1000 · Σ_stages 2^(l−L) · Σ_chw ℓ / B,   l = 1..L

Two stages: first the student's features learn from L alone, through connectors that are then thrown away; then the
whole student learns from the cross-entropy alone. So β has no effect, here as in the published tables. Connectors are
the tables': none between maps of one shape, else FitNets' regressor without its ReLU.

The last batch norm of a wide ResNet follows the last stage. In the tables' first stage, which trains the stages alone,
it keeps its first state (mean 0, variance 1): s = x/√(1 + 1e-5) of the stage's output x. That is the default; in the
authors' code it is trained like all others (`--ab_bn trained`). Other students are the same in both forms.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.maps import Regressor, pair_stages
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.option_types import Epochs
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features, Network

MARGIN = 1.0
SCALE = 3 / 1000


def boundary_loss(s: Tensor, t: Tensor, margin: float = MARGIN) -> Tensor:
    """Sum over all neurons of the squared distance to the teacher's side, mean over the batch; both B×C×H×W."""
    distance = torch.where(t > 0, margin - s, margin + s).clamp(min=0)
    return distance.square().sum() / len(s)


class Connector(Regressor):
    """Maps of one shape to maps of another by convolution and batch norm, without an activation."""

    def forward(self, x: Tensor) -> Tensor:
        return self.regress(x)


@register_method("abound", aliases=("ab",))
class ActivationBoundaries(Method):
    """Match which neurons fire in each stage, in an initial stage of training; then cross-entropy alone.

    Options:
        init_epochs: epochs of the initial stage.
        ab_bn: in the initial stage, keep frozen or train the batch norm that follows the last stage of a wide ResNet
            student.
    """

    paper = "Heo et al., Knowledge Transfer via Distillation of Activation Boundaries, AAAI 2019"
    weights = Weights(gamma=1, alpha=0, beta=1)
    student_needs = ("preacts", "stages")
    teacher_needs = ("preacts",)
    reads_teacher_logits = False
    initial_trains_student = True
    required_hooks = ("inspect_networks",)

    def __init__(self, pair: Pair, *, init_epochs: Epochs = 30, ab_bn: Literal["frozen", "trained"] = "frozen"):
        super().__init__(pair)
        if init_epochs < 1:
            raise RequestError(f"--init_epochs is {init_epochs}; abound teaches in its initial stage, give 1 or more")
        self.initial_epochs = init_epochs
        self.freezes_norm = ab_bn == "frozen"
        self.frozen_norm_scale: float | None = None  # of a norm that follows the last stage and is frozen
        self.pairs = pair_stages(len(pair.student.preacts), len(pair.teacher.preacts))
        shapes = [(pair.student.preacts[i], pair.teacher.preacts[j]) for i, j in self.pairs]
        self.connectors = nn.ModuleList(nn.Identity() if s == t else Connector(s, t) for s, t in shapes)

    def inspect_networks(self, student: Network, teachers: tuple[Network, ...]) -> None:
        super().inspect_networks(student, teachers)
        norms = student.stage_norms()
        if self.freezes_norm and norms is not None and student.norm_follows_last_stage:
            self.frozen_norm_scale = (1 + norms[-1].eps) ** -0.5

    def initial_losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        (teacher,) = teachers
        maps, last_stage = list(student.preacts), student.stages[-1]
        if self.frozen_norm_scale is not None:
            # The network's own norm used the batch's statistics, and moved its running ones; the main stage forgets it.
            maps[-1] = self.frozen_norm_scale * last_stage
        distances = [
            boundary_loss(connector(maps[i]), teacher.preacts[j])
            for connector, (i, j) in zip(self.connectors, self.pairs, strict=True)
        ]
        deepest = len(distances) - 1
        return {"abound": SCALE * summed(2.0 ** (place - deepest) * each for place, each in enumerate(distances))}

    def end_initial_stage(self) -> None:
        self.connectors.requires_grad_(False)

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        return {}
