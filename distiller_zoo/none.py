"""No distillation: the student (or a teacher) trained alone, the row that every gain is measured from."""

from distiller_zoo.method import Method, Weights
from distiller_zoo.registry import register_method


@register_method("none", aliases=("vanilla",))
class NoDistillation(Method):
    """L = CE."""

    paper = "no teacher: cross-entropy alone"
    weights = Weights(gamma=1, alpha=0, beta=0)
    min_teachers = 0
    max_teachers = 0

    def losses(self, student, teachers, batch):
        return {}
