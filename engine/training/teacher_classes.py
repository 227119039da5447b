"""Teachers whose logits say nothing of the data set's classes: no run may read them."""

import shlex
from collections.abc import Iterable, Sequence

from common.errors import RequestError
from distiller_zoo import method_class
from engine.checkpoints.teachers import Teacher
from engine.protocol.plan import RunPlan


def reads_logits(plan: RunPlan) -> bool:
    """True if a run reads its teachers' logits: for its KL term, or in the method's own losses."""
    return bool(plan.teachers) and (plan.weights.alpha > 0 or method_class(plan.method).reads_teacher_logits)


def check_logits(plan: RunPlan, teachers: Sequence[Teacher]) -> None:
    """Raise RequestError if a run reads the logits of a teacher that has other classes than the data set, or none."""
    misfit = next((teacher for teacher in teachers if teacher.fit.misfit), None)
    if misfit is None or not reads_logits(plan):
        return
    file, fit = misfit.file, misfit.fit
    tuning = (
        f"python train_teacher.py --model {file.model} --dataset {plan.dataset} --init {shlex.quote(str(file.path))}"
    )
    only_kl = not method_class(plan.method).reads_teacher_logits
    ways = [fit.advice, "leave the KL term out with --alpha 0" if only_kl else "", f"fine-tune it first: {tuning}"]
    what = f"with --alpha {plan.weights.alpha:g} {plan.method}" if only_kl else plan.method
    raise RequestError(f"{what} reads the teacher's logits, but {fit.misfit};\n{', or '.join(filter(None, ways))}")


def class_warnings(plans: Iterable[RunPlan], teachers: Iterable[Teacher]) -> list[str]:
    """What is doubtful about the classes of teachers, if one of the runs reads logits."""
    return [teacher.fit.warning for teacher in teachers if teacher.fit.warning] if any(map(reads_logits, plans)) else []
