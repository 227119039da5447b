"""STD: Spatial-channel Token Distillation for Vision MLPs (Li, Chen, Dong, Tang, Wang, Xu, ICML 2022).

A module reads the patch features Z (P patches × N channels) of one block and gives nothing back:

    T_S ← T_S + W2·GELU(W1·LN[Z; T_S])        spatial token, 1×N, mixed over the P+1 rows
    T_C ← T_C + W4·GELU(W3·LN[Z, T_C])        channel token, P×1, mixed over the N+1 columns
    z_dist = head([T_S, T_C])                 one linear head on the N+P numbers

    L = (1−α)·CE(z, y) + α·Σ_i w_i·CE(z_dist_i, argmax teacher_i),   α = ½ as γ = β = ½

Only the tokens are computed (W2 and W4 have one output row): with two modules on Mixer-S/16 that gives
22,163,112 parameters, the 22.2 M of the paper. Hidden widths are N/2 and 4N. The weight w_i of a sample
is the softmax over the heads' teachers of the negative entropy of what they predict: the confident teacher counts.
docs/std.md says what of this is known from the paper and what is our reading.
"""

from dataclasses import replace
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import RequestError
from distiller_zoo.checks import check_positive
from distiller_zoo.method import Method, Pair, Weights
from distiller_zoo.mine import Marginal
from distiller_zoo.predictions import kl_of_each
from distiller_zoo.registry import register_method
from distiller_zoo.std_mine import TokenInformation
from distiller_zoo.std_module import Kinds, SpatialChannelModule
from distiller_zoo.teacher_mixture import MANY, mixture, negative_entropies

Reweighting = Literal["negative_entropy", "entropy", "uniform"]
Answer = Literal["average", "class", "distillation", "confidence"]


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


def module_blocks(text: str, depth: int) -> list[int]:
    """The blocks that modules stand behind, as indices from 0, in order.

    Args:
        text: `last`, `last+intermediate` (two thirds of the way up: block ⌊2·depth/3⌋), or numbers of blocks
            from 1, such as `6+8`.

    Raises:
        RequestError: it names no such blocks.
    """
    named = {"last": depth, "intermediate": max(1, 2 * depth // 3)}
    try:
        numbers = [named[part] if part in named else int(part) for part in text.split("+")]
    except ValueError:
        numbers = [0]
    if len(set(numbers)) < len(numbers) or not all(1 <= number <= depth for number in numbers):
        raise RequestError(
            f"--std_modules {text}: give last, last+intermediate, or different numbers from 1 to {depth} joined by + "
            f"(this student has {depth} block(s) to stand behind)"
        )
    return [number - 1 for number in sorted(numbers)]


def _taught_by(teachers: int, modules: int, each: str, heads: str) -> list[tuple[int, ...]]:
    """For each module which teachers its heads learn from; raises RequestError where they cannot be shared out."""
    if each == "all":
        taught = [tuple(range(teachers))] * modules
    elif teachers == 1:
        taught = [(0,)] * modules
    elif teachers == modules and heads == "each":
        taught = [(i,) for i in range(teachers)]
    else:
        raise RequestError(
            f"std with {teachers} teachers needs {teachers} modules with heads; name as many blocks with --std_modules "
            f"(two: last+intermediate), or let each module learn from all: --std_teachers all"
        )
    return taught if heads == "each" else [()] * (modules - 1) + taught[-1:]


def _check_tokens(shapes, kinds: Kinds, layers: int, propagate: bool, heads: str) -> None:
    if layers < 1:
        raise RequestError(f"--std_layers is {layers}; give 1 or more")
    if propagate and kinds == "none":
        raise RequestError("--std_propagate hands tokens on, and --std_tokens none has none; leave out either")
    if propagate and len(set(shapes)) > 1:
        raise RequestError(f"--std_propagate needs blocks of one shape, and these are {shapes}; name others")
    if heads == "last" and len(shapes) > 1 and not propagate:
        raise RequestError("--std_heads last leaves the tokens of other modules without use; add --std_propagate")


@register_method("std")
class STD(Method):
    """Tokens beside the last block, or beside any blocks.

    With several teachers and as many modules, the first teacher belongs to the first module and so on up
    (small teacher first is the paper's best setting). With one teacher, every module learns from it.

    Options:
        std_modules: where modules stand (see `module_blocks`).
        std_teachers: `each` module learns from its own teacher, or from `all`, with a pair of tokens for every one.
        std_heads: heads and losses at `each` module, or at the `last` one, which then goes on from the tokens below.
        std_propagate: modules start from the tokens of the one before in place of their own.
        std_tokens: which tokens a module has; without any, its head reads the mean of the patches.
        std_layers: perceptrons that refine a token, one after the other.
        std_labels, std_T: the class that a teacher prefers, or its prediction softened by a temperature, which alone
            sees standardised logits under --logit_standardization.
        std_reweighting: what teachers' weights follow (see `reweighted`).
        std_predict: which heads the student answers with: the mean of the logits of the class head and the
            distillation heads (their mean, where there are several), either, or their mixture by confidence.
        std_mine: keep the two tokens from saying the same (see mine.py): θ ascends and the student descends the
            bound on their mutual information, each by plain gradient steps of its own, beside the optimizer's.
        std_mine_every: every so many steps of an epoch; 0: once an epoch.
        std_mine_samples: images of the batch that the bound is of; 0: all.
        std_mine_pairs: how images are paired for the marginal (see `marginal_order`).
        std_mine_lr, std_mine_student_lr: rates of the two steps.
    """

    paper = "Li et al., Spatial-Channel Token Distillation for Vision MLPs, ICML 2022"
    weights = Weights(gamma=0.5, alpha=0, beta=0.5)
    attaches = True
    changes_predictions = True
    takes_extra_step = True
    weights_from = "one half for labels and teachers each, as in DeiT"
    student_needs = ("heads",)
    standardises_itself = True  # the logits of the heads
    max_teachers = MANY

    def __init__(
        self,
        pair: Pair,
        *,
        std_modules: str = "last",
        std_teachers: Literal["each", "all"] = "each",
        std_heads: Literal["each", "last"] = "each",
        std_propagate: bool = False,
        std_tokens: Kinds = "both",
        std_layers: int = 1,
        std_labels: Literal["hard", "soft"] = "hard",
        std_T: float = 1.0,
        std_reweighting: Reweighting = "negative_entropy",
        std_predict: Answer = "average",
        std_mine: bool = False,
        std_mine_every: int = 0,
        std_mine_samples: int = 0,
        std_mine_pairs: Marginal = "random",
        std_mine_lr: float = 0.01,
        std_mine_student_lr: float = 0.01,
    ):
        super().__init__(pair)
        blocks = pair.student.blocks
        if not blocks:
            raise RequestError(
                "std distils into MLPs: its tokens read patches × channels, which this CNN student does not have; "
                "choose an MLP, for instance --model_s mixer_nano"
            )
        self.taps = module_blocks(std_modules, len(blocks))
        shapes = [blocks[tap] for tap in self.taps]
        taught = _taught_by(len(pair.teachers), len(shapes), std_teachers, std_heads)
        _check_tokens(shapes, std_tokens, std_layers, std_propagate, std_heads)
        check_positive(std_T=std_T)
        self.taught_by = [teacher for module in taught for teacher in module]  # of each head its teacher
        self.propagate, self.predicts_by = std_propagate, std_predict
        self.labels, self.T, self.reweighting = std_labels, std_T, std_reweighting
        pairs = len(taught[-1])
        self.branches = nn.ModuleList(
            SpatialChannelModule(
                height * width,
                channels,
                pair.student.num_classes,
                kinds=std_tokens,
                pairs=pairs,
                layers=std_layers,
                own_tokens=place == 0 or not std_propagate,
                heads=bool(taught[place]),
            )
            for place, (channels, height, width) in enumerate(shapes)
        )
        self.mine: TokenInformation | None = None
        if std_mine:
            if std_tokens != "both":
                raise RequestError(f"--std_mine needs both tokens, and --std_tokens is {std_tokens}; leave out either")
            self.mine = TokenInformation(
                [shape for shape, teachers in zip(shapes, taught, strict=True) if teachers],
                pairs,
                every=std_mine_every,
                samples=std_mine_samples,
                marginal=std_mine_pairs,
                rates=(std_mine_lr, std_mine_student_lr),
            )

    def attach(self, features):
        read, heads, tokens = (), (), None
        for branch, tap in zip(self.branches, self.taps, strict=True):
            tokens, reads = branch(features.blocks[tap], tokens if self.propagate else None)
            if branch.heads:
                read += reads
                heads += branch.classify(reads)
        return replace(features, heads=heads, tokens=read)

    def predict(self, features):
        return self.answer(features, self.predicts_by)

    def answer(self, features, name: Answer) -> Tensor:
        """B×K logits by one of the ways to use the heads."""
        if name == "class":
            return features.logits
        if name == "confidence":
            return mixture(
                [replace(features, logits=z) for z in (features.logits, *features.heads)], "confidence"
            ).logits
        distilled = torch.stack(features.heads).mean(dim=0)
        return distilled if name == "distillation" else (features.logits + distilled) / 2

    def predictions_by_head(self, features):
        return {name: self.answer(features, name) for name in get_args(Answer)}

    def losses(self, student, teachers, batch):
        logits_t = [teachers[i].logits for i in self.taught_by]
        weights = reweighted(logits_t, self.reweighting)
        if self.labels == "hard":
            each = [hard_label_losses(s, t) for s, t in zip(student.heads, logits_t, strict=True)]
        else:
            pairs = zip(map(self.standardise, student.heads), map(self.standardise, logits_t), strict=True)
            each = [soft_label_losses(s, t, self.T) for s, t in pairs]
        return {"std": (weights * torch.stack(each)).sum(dim=0).mean()}

    def extra_step(self, trainee, batch):
        if self.mine is not None and self.mine.due(batch.step):
            self.mine.step(trainee, batch)

    def extra_metrics(self):
        return {} if self.mine is None else {"mine": self.mine.bound}
