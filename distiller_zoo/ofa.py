"""OFA-KD: One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge Distillation (Hao, Guo, Han,
Tang, Hu, Wang, Xu, NeurIPS 2023, arXiv:2310.19444).

Each stage of the student gets an exit (ofa_exits.py), a small network that ends in logits; so nothing of the teacher
but its logits is matched, whatever family it is of. Final logits and exits learn by a cross-entropy with a target that
can trust the label y more than the teacher (p: softmax outputs at temperature T):

    ℓ = −Σ_c q_c·log p_s,c,    q_y = (p_t,y + 1)^γ − 1,    q_c = p_t,c^γ for the other classes
    L = ℓ(final logits) + w·Σ_exits ℓ

That is the authors' code, which the published numbers come from; with γ = 1 it is the plain cross-entropy with the
teacher's output. The paper prints q_y = (p_t,y + 1)^γ, a cross-entropy more, and q_c = p_t,c (`--ofa_form paper`).

The settings that the authors gave for CIFAR-100 rows have γ = 1, T = 1 and w = 0.1; their code's own default is w = 1.
The label of a mixed image is the class with the larger share of it, as in their code.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.ofa_exits import TokenExit, convolutional_exit, initialise
from distiller_zoo.option_types import Exponent, Range, Temperature
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features

Target = Callable[[Tensor, Tensor, float], Tensor]  # q from the teacher's probabilities, one-hot labels and γ


def target_of_code(p_t: Tensor, label: Tensor, gamma: float) -> Tensor:
    """B×K targets q as in the authors' code, from probabilities and one-hot labels, B×K."""
    return (p_t + label) ** gamma - label


def target_of_paper(p_t: Tensor, label: Tensor, gamma: float) -> Tensor:
    """B×K targets q as the paper prints them, from probabilities and one-hot labels, B×K."""
    return torch.where(label > 0, (p_t + label) ** gamma, p_t)


TARGETS: dict[str, Target] = {"code": target_of_code, "paper": target_of_paper}


def ofa_loss(
    logits_s: Tensor,
    logits_t: Tensor,
    labels: Tensor,
    gamma: float,
    temperature: float,
    target: Target = target_of_code,
) -> Tensor:
    """Cross-entropy with the adaptively enhanced target, mean over the batch; logits B×K, labels B."""
    log_s = F.log_softmax(logits_s / temperature, dim=1)
    p_t = F.softmax(logits_t / temperature, dim=1)
    label = F.one_hot(labels, p_t.shape[1]).to(p_t.dtype)
    return -(target(p_t, label, gamma) * log_s).sum(dim=1).mean()


@register_method("ofa")
class OFA(Method):
    """The teacher's logits for every stage of the student.

    Options:
        ofa_gamma: γ; above 1 the label counts more where the teacher is sure of it.
        ofa_temperature: T, temperature of both predictions.
        ofa_weight: w, weight of the exits within the method's loss.
        ofa_form: the target as the authors' code has it (`code`) or as the paper prints it (`paper`).
    """

    paper = "Hao et al., One-for-All: Bridge the Gap Between Heterogeneous Architectures in KD, NeurIPS 2023"
    weights = Weights(gamma=1, alpha=0, beta=1)
    student_needs = ("stages",)
    reads_labels = True
    standardises_itself = True  # the logits of exits too

    def __init__(
        self,
        pair: Pair,
        *,
        ofa_gamma: Exponent = 1.0,
        ofa_temperature: Temperature = 1.0,
        ofa_weight: Annotated[float, Range(0, 1e9, open_below=True)] = 0.1,
        ofa_form: Literal["code", "paper"] = "code",
    ):
        super().__init__(pair)
        self.gamma, self.temperature, self.weight = ofa_gamma, ofa_temperature, ofa_weight
        self.target = TARGETS[ofa_form]
        student, stages = pair.student, pair.student.stages
        width = max(student.embedding, pair.teacher.embedding)
        if width < 1:
            raise RequestError("ofa takes the width of its exits from the embeddings, and neither network has one")
        self.exits = nn.ModuleList(
            TokenExit(shape, len(stages) - number, student.num_classes)
            if student.blocks
            else convolutional_exit(shape[0], len(stages) - number, width, student.num_classes)
            for number, shape in enumerate(stages, start=1)
        )
        self.exits.apply(initialise)

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        logits_t = self.standardise(teachers[0].logits)
        final, *exits = (
            ofa_loss(self.standardise(z), logits_t, batch.main_labels, self.gamma, self.temperature, self.target)
            for z in (student.logits, *self.exit_logits(student))
        )
        return {"ofa_logits": final, "ofa_exits": self.weight * summed(exits)}

    def exit_logits(self, student: Features) -> list[Tensor]:
        """B×K logits of each exit."""
        return [leave(f) for leave, f in zip(self.exits, student.stages, strict=True)]
