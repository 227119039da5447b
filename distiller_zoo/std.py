"""STD: Spatial-channel Token Distillation for Vision MLPs (Li, Chen, Dong, Tang, Wang, Xu, ICML 2022).

A module reads the patch features Z (P patches × N channels) of one block and gives nothing back:

    T_S ← T_S + W2·GELU(W1·LN[Z; T_S])        spatial token, 1×N, mixed over the P+1 rows
    T_C ← T_C + W4·GELU(W3·LN[Z, T_C])        channel token, P×1, mixed over the N+1 columns
    z_dist = head([T_S, T_C])                 one linear head on the N+P numbers

    L = (1−α)·CE(z, y) + α·Σ_i w_i·CE(z_dist_i, argmax teacher_i),   α = ½ as γ = β = ½

Only the tokens are computed (W2 and W4 have one output row): with two modules on Mixer-S/16 that gives
22,163,112 parameters, the 22.2 M of the paper. Hidden widths are N/2 and 4N. The weight w_i of a sample
is the softmax over the heads' teachers of the negative entropy of their predictions: the confident teacher counts.
docs/std.md says what of this is known from the paper and what is our reading.

The module is in std_module.py, the places of modules in std_layout.py, the regulariser in std_mine.py.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.method import Batch, Method, Pair, Trainee, Weights
from distiller_zoo.option_types import Modules, OnlyWith, OnlyWithTeachers, Temperature
from distiller_zoo.predictions import kl_of_each
from distiller_zoo.registry import register_method
from distiller_zoo.std_layout import Heads, ModulePlace, Teaching, module_places
from distiller_zoo.std_mine import MineOptions, TokenInformation
from distiller_zoo.std_module import Kinds, ModuleForm, SpatialChannelModule, Tokens
from distiller_zoo.teacher_mixture import MANY, mixture, negative_entropies
from models import Features

Reweighting = Literal["negative_entropy", "entropy", "uniform"]
Prediction = Literal["average", "class", "distillation", "confidence"]


def hard_label_losses(logits_s: Tensor, logits_t: Tensor) -> Tensor:
    """B cross-entropies of a distillation head with the class that the teacher prefers; both inputs B×K."""
    return F.cross_entropy(logits_s, logits_t.argmax(dim=1), reduction="none")


def soft_label_losses(logits_s: Tensor, logits_t: Tensor, T: float) -> Tensor:
    """T² times the B divergences KL(teacher ‖ head) of predictions softened by T; both inputs B×K."""
    log_s, log_t = (logits_s / T).log_softmax(dim=1), (logits_t / T).log_softmax(dim=1)
    return T**2 * kl_of_each(log_s, log_t)


def reweighted(logits_t: list[Tensor], by: Reweighting) -> Tensor:
    """M×B weights of M teachers' B×K logits, which sum to 1 over the teachers.

    `negative_entropy` favours the sure teacher, as the paper's words have it; `entropy` the unsure one, as its
    formula is printed in the reproduction; `uniform` none.
    """
    confidence = negative_entropies(logits_t)
    if by == "uniform":
        return torch.full_like(confidence, 1 / len(confidence))
    return (confidence if by == "negative_entropy" else -confidence).softmax(dim=0)


def std_loss(losses_of_heads: list[Tensor], weights: Tensor) -> Tensor:
    """Σ_i w_i·ℓ_i, mean over the batch: B losses of each of M heads, M×B weights."""
    return (weights * torch.stack(losses_of_heads)).sum(dim=0).mean()


@dataclass(frozen=True)
class ModuleOptions:
    """Options of std: the places of the modules, and what each holds (explained at `STD`)."""

    std_modules: str = "last"
    std_teachers: Annotated[Teaching, OnlyWithTeachers(2)] = "each"
    std_heads: Heads = "each"
    std_propagate: bool = False
    std_tokens: Kinds = "both"
    std_layers: Modules = 1


@dataclass(frozen=True)
class HeadOptions:
    """Options of std: what the distillation heads learn, and how the student predicts (explained at `STD`)."""

    std_labels: Literal["hard", "soft"] = "hard"
    std_T: Annotated[Temperature, OnlyWith("std_labels", ("soft",))] = 1.0
    std_reweighting: Annotated[Reweighting, OnlyWithTeachers(2)] = "negative_entropy"
    std_predict: Prediction = "average"


@register_method("std")
class STD(Method):
    """Teach heads on tokens beside the last block, or beside any blocks.

    With several teachers and as many modules, the first teacher belongs to the first module and so on up
    (small teacher first is the paper's best setting). With one teacher, every module learns from it.

    Options:
        std_modules: the blocks that modules read: `last`, `last+intermediate` (two thirds of the way up), or numbers of
            blocks from 1, such as 6+8.
        std_teachers: `each` module learns from its own teacher, or from `all`, with a pair of tokens for every one.
        std_heads: heads and losses at `each` module, or at the `last` one, which then goes on from the tokens below.
        std_propagate: modules start from the tokens of the one before in place of their own.
        std_tokens: which tokens a module has; without any, its head reads the mean of the patches.
        std_layers: perceptrons that refine a token, one after the other.
        std_labels: heads learn the class that a teacher prefers (`hard`) or its softened prediction (`soft`).
        std_T: temperature of soft labels, which alone see standardised logits under --logit_standardization.
        std_reweighting: several teachers weigh by `negative_entropy` (the sure one more), by `entropy` (the unsure one
            more) or all alike.
        std_predict: the student predicts by the `average` of the logits of its class head and its distillation heads,
            by either, or by their mixture by confidence.
        std_mine: lower the mutual information of the two tokens by gradient steps of their own, beside the optimizer's.
        std_mine_every: steps of an epoch from one step of --std_mine to the next; 0: once an epoch.
        std_mine_samples: images of the batch in a step of --std_mine; 0: all.
        std_mine_pairs: the channel token of another image, drawn at `random` or that of the next image (`shifted`),
            stands for an independent one.
        std_mine_lr: learning rate of the network that estimates the mutual information.
        std_mine_student_lr: learning rate of the student in a step of --std_mine.
    """

    paper = "Li et al., Spatial-Channel Token Distillation for Vision MLPs, ICML 2022"
    weights = Weights(gamma=0.5, alpha=0, beta=0.5)
    refuses = "CNN students, as its tokens read patches × channels"
    weights_from = "one half for labels and teachers each, as in DeiT"
    attaches = True
    changes_predictions = True
    takes_extra_step = True
    student_needs = ("heads",)
    standardises_itself = True  # the logits of the heads
    max_teachers = MANY

    def __init__(self, pair: Pair, *, modules: ModuleOptions, heads: HeadOptions, mine: MineOptions):
        super().__init__(pair)
        places = module_places(pair, modules.std_modules, modules.std_teachers, modules.std_heads)
        form = ModuleForm(modules.std_tokens, pairs=len(places[-1].teachers), layers=modules.std_layers)
        _check_tokens(places, modules)
        self.teacher_order_matters = modules.std_teachers == "each"
        self.blocks_read = [place.block for place in places]
        self.teacher_of_head = [teacher for place in places for teacher in place.teachers]
        self.propagates, self.head_options = modules.std_propagate, heads
        self._branches = tuple(
            _module(place, pair.student.num_classes, replace(form, own_tokens=number == 0 or not self.propagates))
            for number, place in enumerate(places)
        )
        self.branches = nn.ModuleList(self._branches)
        self.mine: TokenInformation | None = None
        if mine.std_mine:
            if form.kinds != "both":
                raise RequestError(f"--std_mine needs both tokens, and --std_tokens is {form.kinds}; leave out either")
            self.mine = TokenInformation([place.shape for place in places if place.teachers], form.pairs, mine)

    def attach(self, features: Features) -> Features:
        heads: tuple[Tensor, ...] = ()
        inputs_of_heads: tuple[Tensor, ...] = ()
        tokens: Tokens | None = None
        for branch, block in zip(self._branches, self.blocks_read, strict=True):
            tokens, inputs = branch(features.blocks[block], tokens if self.propagates else None)
            if branch.heads:
                inputs_of_heads += inputs
                heads += branch.classify(inputs)
        return replace(features, heads=heads, tokens=inputs_of_heads)

    def predict(self, features: Features) -> Tensor:
        return self.logits_by(self.head_options.std_predict, features)

    def logits_by(self, prediction: Prediction, features: Features) -> Tensor:
        """B×K logits by one of the ways to use the heads, from attached features."""
        if prediction == "class":
            return features.logits
        if prediction == "confidence":
            every_head = (features.logits, *features.heads)
            return mixture(tuple(replace(features, logits=z) for z in every_head), "confidence").logits
        distilled = torch.stack(features.heads).mean(dim=0)
        return distilled if prediction == "distillation" else (features.logits + distilled) / 2

    def predictions_by_head(self, features: Features) -> dict[str, Tensor]:
        return {prediction: self.logits_by(prediction, features) for prediction in get_args(Prediction)}

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        logits_t = [teachers[i].logits for i in self.teacher_of_head]
        losses = [self.head_losses(s, t) for s, t in zip(student.heads, logits_t, strict=True)]
        return {"std": std_loss(losses, reweighted(logits_t, self.head_options.std_reweighting))}

    def head_losses(self, logits_s: Tensor, logits_t: Tensor) -> Tensor:
        """B losses of one head with its teacher; both inputs B×K."""
        if self.head_options.std_labels == "hard":
            return hard_label_losses(logits_s, logits_t)
        return soft_label_losses(self.standardise(logits_s), self.standardise(logits_t), self.head_options.std_T)

    def extra_step(self, trainee: Trainee, batch: Batch) -> None:
        if self.mine is not None and self.mine.due(batch.step):
            self.mine.step(trainee, batch)

    def extra_metrics(self) -> dict[str, Tensor]:
        return {} if self.mine is None else {"mine": self.mine.bound}


def _module(place: ModulePlace, num_classes: int, form: ModuleForm) -> SpatialChannelModule:
    channels, height, width = place.shape
    return SpatialChannelModule(height * width, channels, num_classes, replace(form, heads=bool(place.teachers)))


def _check_tokens(places: tuple[ModulePlace, ...], options: ModuleOptions) -> None:
    shapes = [place.shape for place in places]
    if options.std_propagate and options.std_tokens == "none":
        raise RequestError("--std_propagate hands tokens on, and --std_tokens none has none; leave out either")
    if options.std_propagate and len(set(shapes)) > 1:
        raise RequestError(f"--std_propagate needs blocks of one shape, and these are {shapes}; name others")
    if options.std_heads == "last" and len(places) > 1 and not options.std_propagate:
        raise RequestError("--std_heads last leaves the tokens of other modules unused; add --std_propagate")
