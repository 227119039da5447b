"""From answers to files: each picture as SVG and PNG, with its numbers beside it as CSV."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import pictures
from analysis.agreement import class_accuracy, compare
from analysis.class_correlation import class_correlation, mean_difference
from analysis.collect import Answers
from analysis.embedding import project
from analysis.learning_curves import Band, CurvePicture
from analysis.subjects import Subject
from common.files import make_folder, write_text


def report_student(
    folder: Path,
    labels: np.ndarray,
    teacher: tuple[Subject, Answers],
    student: tuple[Subject, Answers],
    alone: Answers | None = None,
) -> dict[str, Any]:
    """Write the correlation, CKA, confusion and class pictures of a student; returns the figures of one number each.

    Args:
        labels: of the test images, N.
        alone: of the student that had no teacher, over which gains are shown too.
    """
    make_folder(folder)
    (t, of_teacher), (s, of_student) = teacher, student
    correlation = _report_correlation(folder, of_teacher.logits, of_student.logits, t.name, s.name)
    figure = pictures.cka_picture(of_student.cka, t.name, of_teacher.layers, s.name, of_student.layers)
    pictures.save(figure, folder / "cka")
    pairs = product(of_teacher.layers, of_student.layers)
    rows = [(a, b, value) for (a, b), value in zip(pairs, of_student.cka.flat, strict=True)]
    write_table(folder / "cka.csv", pd.DataFrame(rows, columns=["teacher", "student", "cka"]))
    agreement = compare(of_teacher.logits, of_student.logits, labels)
    pictures.save(pictures.confusion_picture(agreement, t.name, s.name), folder / "confusion")
    counts = {name: getattr(agreement, name) for name in ("teacher", "student", "student_by_teacher")}
    write_table(folder / "confusion.csv", matrices(counts))
    by_class = None if alone is None else class_accuracy(compare(of_teacher.logits, alone.logits, labels).student)
    pictures.save(pictures.class_picture(agreement, t.name, s.name, by_class), folder / "classes")
    write_table(folder / "classes.csv", _classes(agreement.teacher, agreement.student, by_class))
    return {
        "top1": 100 * float((of_student.logits.argmax(axis=1) == labels).mean()),
        "agreement": agreement.share,
        "agreement_where_teacher_right": agreement.where_right,
        "agreement_where_teacher_wrong": agreement.where_wrong,
        "kl_nats": agreement.kl,
        "correlation_difference": correlation,
        "cka_embedding": float(of_student.cka[-1, -1]),
    }


def report_tsne(
    folder: Path, subjects: Sequence[Subject], answers: Sequence[Answers], chosen: np.ndarray, labels: np.ndarray,
    classes: Sequence[int], num_classes: int,
) -> None:  # fmt: skip
    """Write the t-SNE of all networks' embeddings of the chosen images; `labels` are theirs, M."""
    points = [project(one.embeddings) for one in answers]
    names = [subject.name for subject in subjects]
    pictures.save(pictures.tsne_picture(points, names, labels, classes, num_classes), folder / "tsne")
    tables = [
        pd.DataFrame({"network": name, "image": chosen, "class": labels, "x": found[:, 0], "y": found[:, 1]})
        for name, found in zip(names, points, strict=True)
    ]
    write_table(folder / "tsne.csv", pd.concat(tables))


def report_curves(folder: Path, picture: CurvePicture, band: Band) -> None:
    """Write the learning curves of one pair."""
    pictures.save(pictures.curves_picture(picture, band), folder / f"curves_{picture.name}")
    columns = ("epochs", "n", "mean", "low", "high")
    tables = [
        pd.DataFrame({"label": curve.label, **{name: getattr(curve, name) for name in columns}})
        for curve in picture.curves
    ]
    table = pd.concat(tables).rename(columns={"epochs": "epoch", "n": "trials"})
    write_table(folder / f"curves_{picture.name}.csv", table)


def matrices(parts: dict[str, np.ndarray]) -> pd.DataFrame:
    """Matrices of one shape as a table: a line per cell with its row, its column, and its value in each."""
    rows, columns = np.indices(next(iter(parts.values())).shape)
    return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel()} | {k: v.ravel() for k, v in parts.items()})


def write_table(path: Path, table: pd.DataFrame) -> None:
    """As CSV with every digit; raises RunError where it cannot be written."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _report_correlation(
    folder: Path, of_teacher: np.ndarray, of_student: np.ndarray, teacher: str, student: str
) -> float:
    one, other = class_correlation(of_teacher), class_correlation(of_student)
    difference, mean = np.abs(one - other), mean_difference(one, other)
    pictures.save(pictures.correlation_picture(difference, mean, teacher, student), folder / "correlation")
    parts = {"teacher": one, "student": other, "difference": difference}
    write_table(folder / "correlation.csv", matrices(parts))
    return mean


def _classes(teacher: np.ndarray, student: np.ndarray, alone: np.ndarray | None) -> pd.DataFrame:
    one, other = class_accuracy(teacher), class_accuracy(student)
    columns = {"class": np.arange(len(one)), "images": teacher.sum(axis=1), "teacher": one, "student": other}
    columns["gain_over_teacher"] = other - one
    if alone is not None:
        columns |= {"alone": alone, "gain_over_alone": other - alone}
    return pd.DataFrame(columns)
