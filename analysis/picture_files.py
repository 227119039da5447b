"""Writes each picture as SVG and PNG, with its numbers as CSV."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import pictures
from analysis.agreement import Agreement, compare, gain_errors
from analysis.class_correlation import class_correlation, mean_difference
from analysis.collect import Predictions
from analysis.embedding import ShownImages, project
from analysis.evaluated_images import EvaluatedImages
from analysis.gallery import report_mistakes, surest_mistakes
from analysis.learning_curves import Band, CurvePicture
from analysis.named_networks import ALONE, NamedNetwork
from analysis.per_class import balanced_accuracy, class_accuracy, confusion
from analysis.pictures import ClassGain
from common.files import make_folder, write_text
from common.spreadsheet import csv_of


def report_student(
    folder: Path,
    tested: EvaluatedImages,
    teacher: tuple[NamedNetwork, Predictions],
    student: tuple[NamedNetwork, Predictions],
    alone: Predictions | None,
    highest: float,
) -> dict[str, Any]:
    """Write the correlation, CKA, confusion and class pictures of a student, and its surest mistakes.

    Args:
        tested: the N test images.
        alone: predictions of the student trained without a teacher; adds the gains over it.
        highest: end of the scale of the correlation picture, for all students of a command (`highest_difference`).

    Returns:
        The student's scalar figures by name.
    """
    make_folder(folder)
    labels, texts = tested.labels, tested.texts if tested.names else ()
    (t, of_teacher), (s, of_student) = teacher, student
    correlations = class_correlation(of_teacher.logits), class_correlation(of_student.logits)
    correlation = _report_correlation(folder, correlations, (t.name, s.name), highest, texts)
    figure = pictures.cka_picture(of_student.cka, t.name, of_teacher.layers, s.name, of_student.layers)
    pictures.save(figure, folder / "cka")
    pairs = product(of_teacher.layers, of_student.layers)
    rows = [(a, b, value) for (a, b), value in zip(pairs, of_student.cka.flat, strict=True)]
    write_table(folder / "cka.csv", pd.DataFrame(rows, columns=["teacher", "student", "cka"]))
    agreement = compare(of_teacher.logits, of_student.logits, labels)
    pictures.save(pictures.confusion_picture(agreement, t.name, s.name, texts), folder / "confusion")
    counts = {name: getattr(agreement, name) for name in ("teacher", "student", "student_by_teacher")}
    write_table(folder / "confusion.csv", matrices(counts))
    gains = [class_gain(t.name, agreement.teacher, of_teacher.logits, of_student.logits, labels)]
    if alone is not None:
        counts_alone = compare(of_teacher.logits, alone.logits, labels).student
        gains.append(class_gain(ALONE, counts_alone, alone.logits, of_student.logits, labels))
    pictures.save(pictures.class_picture(agreement, t.name, s.name, gains, texts), folder / "classes")
    write_table(folder / "classes.csv", _classes(agreement, gains, tested.names))
    report_mistakes(folder, surest_mistakes(of_student.logits, labels), tested)
    return {
        **accuracies(of_student.logits, tested),
        "agreement": agreement.share,
        "agreement_where_teacher_right": agreement.where_right,
        "agreement_where_teacher_wrong": agreement.where_wrong,
        "kl_nats": agreement.kl,
        "correlation_difference": correlation,
        "cka_embedding": float(of_student.cka[-1, -1]),
    }


def accuracies(logits: np.ndarray, tested: EvaluatedImages) -> dict[str, float]:
    """Top-1 and balanced accuracy in per cent, from N×K logits."""
    counts = confusion(tested.labels, logits.argmax(axis=1), tested.num_classes)
    return {"top1": 100 * float(np.trace(counts) / counts.sum()), "balanced": balanced_accuracy(counts)}


def highest_difference(teacher: Predictions, students: Sequence[Predictions]) -> float:
    """The largest |R_t − R_s| of any student: pictures that are compared have one scale."""
    of_teacher = class_correlation(teacher.logits)
    return max(float(np.abs(of_teacher - class_correlation(one.logits)).max()) for one in students)


def report_tsne(
    folder: Path, networks: Sequence[NamedNetwork], predictions: Sequence[Predictions], images: ShownImages
) -> None:
    """Write the t-SNE picture of all networks' embeddings of `images`."""
    points = [project(one.embeddings) for one in predictions]
    names = [network.name for network in networks]
    pictures.save(pictures.tsne_picture(points, names, images), folder / "tsne", few_colours=True)
    shown = {"image": images.positions, "class": images.labels}
    tables = [
        pd.DataFrame({"network": name, **shown, "x": xy[:, 0], "y": xy[:, 1]})
        for name, xy in zip(names, points, strict=True)
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
    """Table of matrices of one shape: one line per cell, with row, column and the value in each matrix."""
    rows, columns = np.indices(next(iter(parts.values())).shape)
    return pd.DataFrame({"row": rows.ravel(), "column": columns.ravel()} | {k: v.ravel() for k, v in parts.items()})


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV with all digits. Raises RunError if the file cannot be written."""
    write_text(path, csv_of(table))


def class_gain(
    over: str, counts: np.ndarray, reference: np.ndarray, student: np.ndarray, labels: np.ndarray
) -> ClassGain:
    """The gain of each class over a reference network, from both networks' N×K logits.

    Args:
        counts: K×K confusion counts of the reference.
    """
    of_reference = class_accuracy(counts)
    of_student = class_accuracy(confusion(labels, student.argmax(axis=1), student.shape[1]))
    return ClassGain(over, of_reference, of_student - of_reference, gain_errors(student, reference, labels))


def _report_correlation(
    folder: Path,
    correlations: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    highest: float,
    texts: Sequence[str],
) -> float:
    teachers, students = correlations
    difference, mean = np.abs(teachers - students), mean_difference(teachers, students)
    pictures.save(pictures.correlation_picture(difference, mean, names, highest, texts), folder / "correlation")
    parts = {"teacher": teachers, "student": students, "difference": difference}
    write_table(folder / "correlation.csv", matrices(parts))
    return mean


def _classes(agreement: Agreement, gains: Sequence[ClassGain], class_names: Sequence[str]) -> pd.DataFrame:
    of_teacher, of_student = class_accuracy(agreement.teacher), class_accuracy(agreement.student)
    columns: dict[str, Any] = {"class": np.arange(len(of_teacher)), "images": agreement.teacher.sum(axis=1)}
    columns |= {"name": class_names} if class_names else {}
    columns |= {"teacher": of_teacher, "student": of_student, "gain_over_teacher": gains[0].gain}
    if len(gains) > 1:
        columns |= {"alone": gains[1].reference, "gain_over_alone": gains[1].gain}
    names = ("gain_over_teacher_se", "gain_over_alone_se")
    return pd.DataFrame(columns | {name: gain.error for name, gain in zip(names, gains, strict=False)})
