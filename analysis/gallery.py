"""The mistakes that a network is surest of, as small pictures with their classes and probabilities."""

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.special import softmax

from analysis.evaluated_images import EvaluatedImages
from common.files import make_folder, write_bytes, write_text
from common.spreadsheet import csv_of

MOST = 24  # mistakes of a network
FOLDER, TABLE = "mistakes", "mistakes.csv"
SIDE = 96  # pixels of a photograph in the gallery; smaller images stay as they are
AS_THEY_ARE = 64  # pixels up to which a PNG is smaller than a page would mind
QUALITY = 78  # of JPEG: 3 KB a picture


@dataclass(frozen=True)
class Mistake:
    """An image that is classified incorrectly.

    Attributes:
        image: its position in the test set.
        true, predicted: classes.
        probability, of_true: what the network gives to the predicted and to the true class, 0..1.
    """

    image: int
    true: int
    predicted: int
    probability: float
    of_true: float


def surest_mistakes(logits: np.ndarray, labels: np.ndarray, count: int = MOST) -> list[Mistake]:
    """The `count` mistakes with the largest probability of the predicted class; of equal ones the first images.

    Args:
        logits: N×K.
        labels: N.
    """
    predicted = logits.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    probabilities = softmax(logits[wrong].astype(np.float64), axis=1)
    rows = np.arange(len(wrong))
    sure = probabilities[rows, predicted[wrong]]
    order = np.argsort(-sure, kind="stable")[:count]
    of_true = probabilities[rows, labels[wrong]]
    return [
        Mistake(int(wrong[i]), int(labels[wrong[i]]), int(predicted[wrong[i]]), float(sure[i]), float(of_true[i]))
        for i in order
    ]


def small_picture(image: Image.Image) -> tuple[bytes, str]:
    """The content of a file for the gallery, and its suffix: a PNG of a small image, a JPEG of a photograph."""
    buffer = io.BytesIO()
    if max(image.size) <= AS_THEY_ARE:
        image.save(buffer, "PNG", optimize=True)
        return buffer.getvalue(), ".png"
    image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue(), ".jpg"


def report_mistakes(folder: Path, mistakes: Iterable[Mistake], tested: EvaluatedImages) -> None:
    """Write the pictures of mistakes to `folder`/mistakes, and their classes and probabilities to mistakes.csv.

    Raises:
        DataError: a photograph cannot be decoded.
        RunError: a file cannot be written.
    """
    make_folder(folder / FOLDER)
    for old in (folder / FOLDER).glob("[0-9][0-9].*"):
        old.unlink()  # of an earlier analysis, which may have had more
    rows = []
    for rank, mistake in enumerate(mistakes, 1):
        content, suffix = small_picture(tested.picture(mistake.image))
        name = f"{FOLDER}/{rank:02}{suffix}"
        write_bytes(folder / name, content)
        rows.append({"rank": rank, **asdict(mistake), "picture": name, "file": tested.file(mistake.image)})
    columns = ["rank", *Mistake.__dataclass_fields__, "picture", "file"]
    write_text(folder / TABLE, csv_of(pd.DataFrame(rows, columns=columns)))
