"""MLKD: Multi-Level Logit Distillation (Jin, Wang, Lin, CVPR 2023).

Predictions P = softmax(z/T) (B×K) of several temperatures T ∈ {2, 3, 4, 5, 6} are aligned on three levels:

    instance  T²·mean KL(P_t ‖ P_s)        batch  ‖P_t P_tᵀ − P_s P_sᵀ‖²/B        class  ‖P_tᵀ P_t − P_sᵀ P_s‖²/K

The authors train on a weak and a strong (RandAugment) view of each image. Here the second view is another, independent
augmentation by the recipe. Their tables were made by code with slips of its own, and so is the default form:

    instance  m·Σ_T weak + Σ_{3,4,5} strong + Σ_{2,6} weak (meant as strong)
    batch     m·Σ_T weak          class  c·Σ_T weak          (both are computed for the strong view too, but not added)

m is the share of samples in whose prediction the teacher is no more confident than in the median one, c the same of the
classes by their summed probability: masks that the code applies after the mean, so that they scale by about ½ and
select nothing. `--mlkd_form symmetric` is all levels at all temperatures on both views, without masks.

Under --logit_standardization the instance level alone sees standardised logits, as in the code of its authors; batch
level, class level and masks see them as they are.

Weights: 0.1 for the cross-entropy of each view, whose sum is 0.2 times the mean over both, and 0.9 for the rest. The
authors train with --learning_rate 0.025.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from distiller_zoo.kd import kd_loss
from distiller_zoo.method import Batch, Method, Pair, Weights
from distiller_zoo.registry import register_method
from distiller_zoo.sums import summed
from models import Features

View = tuple[Tensor, Tensor]  # B×K logits of student and teacher
Level = Callable[[Tensor, Tensor, float], Tensor]  # the loss of B×K logits of student and teacher at a temperature

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)
STRONG_TEMPERATURES = (3.0, 4.0, 5.0)  # those at which the published form has an instance level of the second view
REPEATED_TEMPERATURES = (2.0, 6.0)  # those at which it has that of the first view again


def batch_loss(logits_s: Tensor, logits_t: Tensor, temperature: float) -> Tensor:
    """Squared distance of the B×B products of the samples' predictions, over B; two B×K logits."""
    p_s, p_t = (logits_s / temperature).softmax(dim=1), (logits_t / temperature).softmax(dim=1)
    return (p_t @ p_t.T - p_s @ p_s.T).square().sum() / len(p_s)


def class_loss(logits_s: Tensor, logits_t: Tensor, temperature: float) -> Tensor:
    """Squared distance of the K×K products of the classes' probabilities, over K; two B×K logits."""
    p_s, p_t = (logits_s / temperature).softmax(dim=1), (logits_t / temperature).softmax(dim=1)
    return (p_t.T @ p_t - p_s.T @ p_s).square().sum() / p_s.shape[1]


def share_up_to_median(values: Tensor) -> Tensor:
    """The share of N values that are no larger than their median (the mean of the middle two); a scalar."""
    return (values <= values.quantile(0.5)).to(values.dtype).mean()


def over_temperatures(level: Level, view: View, temperatures: Sequence[float] = TEMPERATURES) -> Tensor:
    """Sum over temperatures of a level's loss of one view."""
    return summed(level(*view, temperature) for temperature in temperatures)


def published_losses(weak: View, strong: View, instance_loss: Level = kd_loss) -> dict[str, Tensor]:
    """The three levels as the authors' code adds them up."""
    p_t = weak[1].detach().softmax(dim=1)
    samples, classes = share_up_to_median(p_t.amax(dim=1)), share_up_to_median(p_t.sum(dim=0))
    instance = samples * over_temperatures(instance_loss, weak)
    instance = instance + over_temperatures(instance_loss, strong, STRONG_TEMPERATURES)
    instance = instance + over_temperatures(instance_loss, weak, REPEATED_TEMPERATURES)
    return {
        "mlkd_instance": instance,
        "mlkd_batch": samples * over_temperatures(batch_loss, weak),
        "mlkd_class": classes * over_temperatures(class_loss, weak),
    }


def symmetric_losses(weak: View, strong: View, instance_loss: Level = kd_loss) -> dict[str, Tensor]:
    """The three levels, each summed over both views and all temperatures."""
    levels = {"mlkd_instance": instance_loss, "mlkd_batch": batch_loss, "mlkd_class": class_loss}
    return {name: over_temperatures(level, weak) + over_temperatures(level, strong) for name, level in levels.items()}


@register_method("mlkd")
class MLKD(Method):
    """Predictions aligned for each sample, between samples and between classes, on two views.

    Options:
        mlkd_form: levels and views as in the authors' code (`published`), or all levels on both views (`symmetric`).
    """

    paper = "Jin et al., Multi-Level Logit Distillation, CVPR 2023"
    weights = Weights(gamma=0.2, alpha=0, beta=0.9)
    views = 2
    standardises_itself = True  # one of three levels

    def __init__(self, pair: Pair, *, mlkd_form: Literal["published", "symmetric"] = "published"):
        super().__init__(pair)
        self.losses_of_views = published_losses if mlkd_form == "published" else symmetric_losses

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        weak, strong = zip(student.logits.chunk(2), teachers[0].logits.chunk(2), strict=True)
        return self.losses_of_views(weak, strong, self._instance_loss)

    def _instance_loss(self, logits_s: Tensor, logits_t: Tensor, temperature: float) -> Tensor:
        return kd_loss(self.standardise(logits_s), self.standardise(logits_t), temperature)
