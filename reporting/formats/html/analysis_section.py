"""Numbers and pictures that scripts/analyse.py wrote about students and their teacher, for the page."""

import base64
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.class_sizes import are_uneven
from common.errors import RequestError
from common.json_files import BrokenError, printable, read_object, regular_file_size
from reporting.formats.html.chart import Bar, Chart, horizontal, vertical
from reporting.formats.html.class_names import ClassNames
from reporting.formats.html.class_spread import class_spread
from reporting.formats.html.gallery import Gallery, read_gallery
from reporting.formats.html.grid import Grid, grid_of_values
from reporting.records.untrusted_json import number_or_none, objects, text
from reporting.tables.numbers import signed

RECORD = "analysis.json"
BALANCED = "balanced"
OF_CLASSES = ["class", "images", "teacher", "student", "gain_over_teacher"]
FIGURES = {
    "top1": ("top-1", ".2f"),
    BALANCED: ("balanced", ".2f"),
    "agreement": ("agreement", ".4f"),
    "agreement_where_teacher_right": ("where the teacher is right", ".4f"),
    "agreement_where_teacher_wrong": ("where it is wrong", ".4f"),
    "kl_nats": ("KL (nats)", ".4f"),
    "correlation_difference": ("correlation difference", ".4f"),
    "cka_embedding": ("CKA of embeddings", ".4f"),
}
PICTURES = {
    "confusion": "confusion of the teacher, of the student, and of the student's predictions by the teacher's",
    "correlation": "difference between the correlations of class logits",
    "cka": "similarity of layers, linear CKA",
}
WIDE = ("confusion", "tsne")
TYPES = {"svg": "image/svg+xml", "png": "image/png"}
LARGEST_PICTURE = 4 << 20  # bytes
LARGEST_TABLE = 64 << 20
WHISKERS = "Whiskers are ± one standard error, from the images of the class on which the two differ."
CONFUSED = 10  # pairs of classes that are listed


@dataclass(frozen=True)
class Picture:
    """A picture inside the page, by a data: address. A wide one has panels side by side."""

    address: str
    alt: str
    wide: bool


@dataclass(frozen=True)
class StudentAnalysis:
    """Charts of a student's gains over its teacher, tables of classes and confusions, mistakes, and pictures."""

    name: str
    charts: tuple[Chart, ...]
    classes: Grid
    confused: Grid
    gallery: Gallery | None
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Analysis:
    """All that the page shows of an analysis.

    Attributes:
        by_class: accuracy of each class by every network; None without students.
        gallery: the teacher's; None where an earlier version wrote the folder.
        missing: names of pictures that are not in the folder.
    """

    summary: Grid
    by_class: Grid | None
    gallery: Gallery | None
    students: tuple[StudentAnalysis, ...]
    pictures: tuple[Picture, ...]
    missing: tuple[str, ...]


def read_analysis(folder: Path) -> Analysis:
    """Reads the `--out` folder of scripts/analyse.py.

    Raises:
        RequestError: the folder holds no analysis, or a part of it cannot be read.
    """
    try:
        record = read_object(folder / RECORD)
        students = objects(record, "students", RECORD)
        teacher = record.get("teacher")
        if not isinstance(teacher, dict) or record.get("format") != 1:
            raise BrokenError(f"{RECORD} is not of scripts/analyse.py")
        names = [_name(student) for student in students]
        missing: list[str] = []
        classes = ClassNames.of(record.get("classes"))
        tables = {name: _table(folder / name / "classes.csv", OF_CLASSES) for name in names}
        read = tuple(_student(folder, name, tables, classes, missing) for name in names)
        gallery = read_gallery(folder / "teacher", "teacher", classes, len(names) + 1)
        alt = "t-SNE: the embeddings of every network as points, coloured by class"
        pictures = tuple(_pictures(folder, {"tsne": alt}, "", missing))
        uneven = any(are_uneven(table.images) for table in tables.values())
        summary = _summary(record, {"teacher": teacher, **dict(zip(names, students, strict=True))}, uneven)
        by_class = class_spread(tables, classes) if tables else None
        return Analysis(summary, by_class, gallery, read, pictures, tuple(missing))
    except BrokenError as error:
        raise RequestError(
            f"--analysis {folder}: {error}; "
            "name the --out folder of `python scripts/analyse.py --teacher … --student …`"
        ) from None


def _name(student: dict) -> str:
    name = text(student, "name", RECORD)
    if Path(name).name != name or name in (".", ".."):  # it is a part of paths
        raise BrokenError(f"{RECORD}: {name!r:.40} is no valid folder name")
    return name


def _summary(record: dict, networks: Mapping[str, dict], uneven: bool) -> Grid:
    """Returns the figures of all networks.

    Args:
        uneven: whether classes have unequal numbers of images, so that balanced accuracy says more.
    """
    figures = {name: form for name, form in FIGURES.items() if uneven or name != BALANCED}
    columns = {"network": None, "model": None} | dict(figures.values())
    rows = [
        [name, _model(network), *(number_or_none(network.get(figure)) for figure in figures)]
        for name, network in networks.items()
    ]
    images = record.get("test_images")
    place = printable(f"{record.get('dataset', '')}, {images} test images" if isinstance(images, int) else "")
    return grid_of_values(f"Students beside their teacher{f': {place}' if place else ''}", columns, rows)


def _model(network: dict) -> str:
    model = network.get("model")
    return printable(model) if isinstance(model, str) else ""


def _student(
    folder: Path, name: str, tables: Mapping[str, pd.DataFrame], names: ClassNames, missing: list[str]
) -> StudentAnalysis:
    position, classes = list(tables).index(name) + 1, tables[name]
    counts = _table(folder / name / "confusion.csv", ["row", "column", "teacher", "student"])
    described = {kind: f"{name}: {what}" for kind, what in PICTURES.items()}
    return StudentAnalysis(
        name,
        tuple(_gain_charts(name, position, classes, names)),
        _class_grid(name, classes, names),
        _confused_grid(name, counts, names),
        read_gallery(folder / name, name, names, len(tables) + 1),
        tuple(_pictures(folder / name, described, f"{name}/", missing)),
    )


def _table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Returns a CSV of numbers with at least these columns. Raises BrokenError where it is not one."""
    where = f"{path.parent.name}/{path.name}"
    try:
        if regular_file_size(path) > LARGEST_TABLE:
            raise BrokenError(f"{where} is larger than {LARGEST_TABLE >> 20} MiB")
        table = pd.read_csv(io.BytesIO(path.read_bytes())).drop(columns="name", errors="ignore")
        return table.astype(float)[[*columns, *(name for name in table if name not in columns)]]
    except (OSError, ValueError, KeyError) as error:
        raise BrokenError(f"{where} has no such columns ({printable(str(error)):.80})") from None


def _gain_charts(name: str, position: int, classes: pd.DataFrame, names: ClassNames) -> Iterator[Chart]:
    for column, whom in (("gain_over_teacher", "the teacher"), ("gain_over_alone", "the student alone")):
        if column not in classes or classes[column].isna().all():
            continue
        known = classes[classes[column].notna()]
        error = known.get(f"{column}_se", pd.Series(0.0, known.index)).fillna(0.0)
        x = horizontal([known["class"].min() - 0.5, known["class"].max() + 0.5], whole=True, margin=0.0)
        y = vertical([0.0, *(known[column] - error), *(known[column] + error)])
        zero, wide = y(0.0), max(0.8, 0.8 * (x(1.0) - x(0.0)))
        bars = []
        for number, gain, of_gain in zip(known["class"].astype(int), known[column], error, strict=True):
            top, bottom = min(y(gain), zero), max(y(gain), zero)
            tooltip = f"class {names.text(number)}: {signed(gain)}{f' ± {of_gain:.2f}' if of_gain else ''} points"
            span = (y(gain - of_gain), y(gain + of_gain)) if of_gain else None
            kind = "gained" if gain >= 0 else "lost"
            bars.append(
                Bar(round(x(number) - wide / 2, 1), top, round(wide, 1), round(bottom - top, 1), kind, tooltip, span)
            )
        gained = int((known[column] > 0).sum())
        description = (
            f"Gain of {name} over {whom} by class, in points: from {signed(known[column].min())} to "
            f"{signed(known[column].max())}, above zero for {gained} of {len(known)} classes."
        )
        title = f"{name}: gain over {whom} by class"
        place = f"above zero for {gained} of {len(known)} classes"
        yield Chart(
            f"classes-{position}-{column}", title, place, description, "class", "points", x.ticks(), y.ticks(),
            bars=tuple(bars), level=zero, note=WHISKERS if error.any() else "",
        )  # fmt: skip


def _class_grid(name: str, classes: pd.DataFrame, names: ClassNames) -> Grid:
    columns = {"class": "class", "images": "images", "teacher": "teacher", "student": name}
    columns |= {"gain_over_teacher": "over the teacher", "alone": "alone", "gain_over_alone": "over the student alone"}
    kept = {key: title for key, title in columns.items() if key in classes}
    forms = {"class": ".0f", "images": ".0f", "gain_over_teacher": "+.2f", "gain_over_alone": "+.2f"}
    if name in set(columns.values()) - {name}:  # a student called "images" must not share a column's head
        kept["student"] = f"{name} (student)"
    shown: dict[str, str | None] = {title: forms.get(key, ".2f") for key, title in kept.items()}
    rows = classes[list(kept)].to_numpy().tolist()
    if names.say_more(range(len(classes))):
        (first, form), *others = shown.items()
        shown = {first: form, "name": None, **dict(others)}
        rows = [[label, names.name(int(label)), *values] for label, *values in rows]
    return grid_of_values(f"{name}: top-1 (%) of each class, gains in points", shown, rows)


def _confused_grid(name: str, counts: pd.DataFrame, names: ClassNames) -> Grid:
    """Returns the confusions that the student makes most often, in per cent of the true class."""
    images = counts.groupby("row").student.transform("sum").clip(lower=1)
    shares = counts.assign(of_student=100 * counts.student / images, of_teacher=100 * counts.teacher / images)
    wrong = shares[(shares.row != shares.column) & (shares.student > 0)]
    wrong = wrong.sort_values(["of_student", "row", "column"], ascending=[False, True, True]).head(CONFUSED)
    named = names.say_more(range(int(counts.row.max()) + 1))
    form = None if named else ".0f"
    columns = {"true class": form, "taken for": form, "student %": ".1f", "teacher %": ".1f"}
    rows = wrong[["row", "column", "of_student", "of_teacher"]].to_numpy().tolist()
    if named:
        rows = [[names.text(int(true)), names.text(int(taken)), *shares] for true, taken, *shares in rows]
    return grid_of_values(f"{name}: what it confuses most often, in % of the true class", columns, rows)


def _pictures(folder: Path, described: dict[str, str], prefix: str, missing: list[str]) -> Iterator[Picture]:
    for kind, alt in described.items():
        sizes = {suffix: _size(folder / f"{kind}.{suffix}") for suffix in TYPES}
        suffix = min(sizes, key=sizes.__getitem__)  # of many points an SVG is the larger one
        path = folder / f"{kind}.{suffix}"
        try:
            if sizes[suffix] > LARGEST_PICTURE:
                raise BrokenError("it is missing or too large")
            content = base64.b64encode(path.read_bytes()).decode()
        except (BrokenError, OSError):
            missing.append(f"{prefix}{path.name}")
        else:
            yield Picture(f"data:{TYPES[suffix]};base64,{content}", alt, kind in WIDE)


def _size(path: Path) -> float:
    """Returns the size in bytes of a file; infinity where there is none that can be read."""
    try:
        return regular_file_size(path)
    except BrokenError:
        return math.inf
