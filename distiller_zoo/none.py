"""No distillation: the student (or a teacher) trained alone, the row that every gain is measured from."""

from torch import Tensor

from distiller_zoo.method import Batch, Method, Weights
from distiller_zoo.registry import register_method
from models import Features


@register_method("none", aliases=("vanilla",))
class NoDistillation(Method):
    """L = CE."""

    paper = "no teacher: cross-entropy alone"
    weights = Weights(gamma=1, alpha=0, beta=0)
    min_teachers = 0
    max_teachers = 0

    def losses(self, student: Features, teachers: tuple[Features, ...], batch: Batch) -> dict[str, Tensor]:
        return {}
