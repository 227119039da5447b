"""Agreement between the predictions of a student, its teacher and the labels.

Agreement and KL are the two measures of fidelity of Stanton et al., Does Knowledge Distillation Really Work?, NeurIPS
2021.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from analysis.per_class import confusion


@dataclass(frozen=True)
class Agreement:
    """Teacher and student on N images of K classes.

    Attributes:
        share: share of images on which both predict the same class, 0..1.
        where_right, where_wrong: that share among the images that the teacher classifies correctly and incorrectly;
            None if there are no such images.
        kl: mean over images of KL(softmax(z_t) ‖ softmax(z_s)), in nats.
        teacher, student: K×K counts, a row per true class, a column per prediction.
        student_by_teacher: K×K counts, a row per prediction of the teacher, a column per prediction of the student.
    """

    share: float
    where_right: float | None
    where_wrong: float | None
    kl: float
    teacher: np.ndarray
    student: np.ndarray
    student_by_teacher: np.ndarray


def compare(teacher: np.ndarray, student: np.ndarray, labels: np.ndarray) -> Agreement:
    """All agreement measures, from the N×K logits of both networks and the N labels."""
    classes = teacher.shape[1]
    by_teacher, by_student = teacher.argmax(axis=1), student.argmax(axis=1)
    same, right = by_teacher == by_student, by_teacher == labels
    return Agreement(
        share=float(same.mean()),
        where_right=_mean_or_none(same[right]),
        where_wrong=_mean_or_none(same[~right]),
        kl=mean_kl(teacher, student),
        teacher=confusion(labels, by_teacher, classes),
        student=confusion(labels, by_student, classes),
        student_by_teacher=confusion(by_teacher, by_student, classes),
    )


def mean_kl(teacher: np.ndarray, student: np.ndarray) -> float:
    """Mean over rows of KL(softmax(teacher) ‖ softmax(student)) of N×K logits, in nats, in float64."""
    log_t, log_s = (log_softmax(logits.astype(np.float64), axis=1) for logits in (teacher, student))
    return float((np.exp(log_t) * (log_t - log_s)).sum(axis=1).mean())


def gain_errors(one: np.ndarray, other: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Standard error (points) of the gain of each class, between two networks tested on the same images.

    Of n images of a class b are classified correctly by one network alone and c by the other alone. The gain is
    (b − c)/n, and its variance (b + c − (b − c)²/n)/n², as in McNemar's test. NaN for a class without images.

    Args:
        one, other: N×K logits.
        labels: N.

    Returns:
        float64 K.
    """
    classes = one.shape[1]
    right, right_other = (logits.argmax(axis=1) == labels for logits in (one, other))
    b, c = (np.bincount(labels[only], minlength=classes) for only in (right & ~right_other, right_other & ~right))
    n = np.bincount(labels, minlength=classes).astype(float)
    n[n == 0] = np.nan
    return 100 * np.sqrt(b + c - (b - c) ** 2 / n) / n


def _mean_or_none(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
