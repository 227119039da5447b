"""The pictures: functions from numbers to figures, and `save`, which writes a figure reproducibly."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from PIL import Image

from analysis.agreement import Agreement
from analysis.embedding import ShownImages
from analysis.learning_curves import Band, CurvePicture
from analysis.named_networks import ALONE, TEACHER
from analysis.per_class import class_accuracy, row_shares
from common.files import write_bytes
from common.messages import counted
from reporting.records.epoch_curves import fits_beside, leading_labels
from reporting.tables.columns import REFERENCE

STYLE = {
    "svg.hashsalt": "analysis",  # otherwise the ids of SVG elements are random
    "svg.fonttype": "none",  # text stays text
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 200,
}
COLOURS = [matplotlib.colormaps["tab10"](i) for i in range(10)]
GAINED, LOST = COLOURS[0], COLOURS[1]  # blue and orange, which everyone tells apart
FEW_IMAGES = 100  # of a class, below which a share of them needs their number
LARGEST_ANNOTATED = 12  # rows and columns of a heat map with numbers in its cells
MOST_TICKS = 12
MOST_NAMED = 20  # classes whose names fit on an axis
BANDS: dict[Band, str] = {"range": "band: least to greatest", "std": "band: ± one standard deviation"}


@dataclass(frozen=True)
class ClassGain:
    """Gains of a student over another network by class.

    Attributes:
        over: name of the other network.
        reference: its accuracy of each class in %, K.
        gain, error: gain in points and its standard error, K.
    """

    over: str
    reference: np.ndarray
    gain: np.ndarray
    error: np.ndarray


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Context with Matplotlib's defaults and `STYLE`, whatever the user's settings, to make and save pictures in."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, path: Path, few_colours: bool = False) -> None:
    """Write `path`.svg and `path`.png without dates. Raises RunError if they cannot be written.

    Args:
        few_colours: write the PNG with a palette of 256 colours, which takes a third of the space.
    """
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # Names of classes may be in any script: a PNG has boxes for what the font lacks, an SVG has the text.
            warnings.filterwarnings("ignore", r"Glyph \d+")
            figure.savefig(buffer, format=suffix[1:], metadata=metadata)
        figure.set_layout_engine("none")  # the layout is computed once: it takes longer than the drawing
        if few_colours and suffix == ".png":
            buffer = _with_palette(buffer)
        write_bytes(path.with_name(path.name + suffix), buffer.getvalue())


def _with_palette(png: io.BytesIO) -> io.BytesIO:
    buffer = io.BytesIO()
    with Image.open(png) as picture:
        dots_per_inch = picture.info.get("dpi", (STYLE["savefig.dpi"],) * 2)
        plain = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        plain.save(buffer, "PNG", optimize=True, dpi=dots_per_inch)
    return buffer


def correlation_picture(
    difference: np.ndarray, mean: float, names: tuple[str, str], highest: float, classes: Sequence[str] = ()
) -> Figure:
    """Picture of the K×K difference of two correlation matrices.

    Args:
        names: of the teacher and the student.
        highest: end of the scale, the same for all students that are compared.
        classes: a text for each class, shown if they are few.
    """
    teacher, student = names
    figure = Figure(figsize=(5.6, 5))
    axes = figure.add_subplot()
    _heat_map(axes, difference, Scale(0, highest or 1), "|difference|, one scale for all students")
    axes.set(title=f"Correlations of class logits, {teacher} and {student}\nmean |difference| {mean:.4f}")
    axes.set(xlabel="class", ylabel="class")
    _name_classes(axes, classes, "xy")
    return figure


def cka_picture(
    cka: np.ndarray, teacher: str, teacher_layers: Sequence[str], student: str, student_layers: Sequence[str]
) -> Figure:
    """Picture of T×S linear CKA, one row for each layer of the teacher."""
    figure = Figure(figsize=(2.6 + 0.75 * len(student_layers), 2.2 + 0.6 * len(teacher_layers)))
    axes = figure.add_subplot()
    _heat_map(axes, cka, Scale(0, 1), "linear CKA (unbiased)")
    axes.set_xticks(range(len(student_layers)), student_layers, rotation=30, ha="right")
    axes.set_yticks(range(len(teacher_layers)), teacher_layers)
    axes.set(title="Linear CKA, maps not pooled", xlabel=student, ylabel=teacher)
    return figure


def confusion_picture(agreement: Agreement, teacher: str, student: str, classes: Sequence[str] = ()) -> Figure:
    """Confusion matrices of the teacher, of the student, and of the student against the teacher.

    Colours go by the square root of the share, so that confusions of a few per cent are seen beside the diagonal.

    Args:
        classes: a text for each class, shown if they are few.
    """
    figure = Figure(figsize=(14.5, 5.2))
    parts = (
        (agreement.teacher, f"{teacher}: top-1 {_top1(agreement.teacher):.2f} %", "true class", "prediction"),
        (agreement.student, f"{student}: top-1 {_top1(agreement.student):.2f} %", "true class", "prediction"),
        (
            agreement.student_by_teacher,
            f"{student} beside {_named(teacher)}\nagreement {100 * agreement.share:.2f} %, KL {agreement.kl:.4f} nats",
            f"prediction of {_named(teacher)}",
            f"prediction of {_named(student)}",
        ),
    )
    panels = list(figure.subplots(1, 3))
    numbers = list(map(str, range(len(agreement.teacher))))
    for axes, (counts, title, rows, columns) in zip(panels, parts, strict=True):
        _heat_map(axes, row_shares(counts), Scale(0, 100, gamma=0.5), decimals=0)
        axes.set(title=title, xlabel=columns, ylabel=rows)
        images = counts.sum(axis=1)
        if len(images) <= LARGEST_ANNOTATED and images.min() < FEW_IMAGES:  # 62 % of 8 images are 5 of them
            texts = [f"{name} (n {count})" for name, count in zip(classes or numbers, images, strict=True)]
            _name_classes(axes, texts, "y")
            _name_classes(axes, classes, "x")
        else:
            _name_classes(axes, classes, "xy")
    if classes and len(classes) <= MOST_NAMED:  # the rows of the second are those of the first
        panels[1].set_yticklabels([])
        panels[1].set_ylabel("")
    shares = figure.colorbar(panels[0].images[0], ax=panels, label="% of the row, by its square root", shrink=0.9)
    shares.set_ticks([0, 1, 5, 10, 25, 50, 75, 100])
    return figure


def class_picture(
    agreement: Agreement, teacher: str, student: str, gains: Sequence[ClassGain], texts: Sequence[str] = ()
) -> Figure:
    """Accuracy of each class, and its gains with their standard errors.

    Args:
        texts: one for each class, shown if they are few.
    """
    of_teacher, of_student = class_accuracy(agreement.teacher), class_accuracy(agreement.student)
    classes = np.arange(len(of_teacher))
    figure = Figure(figsize=(max(6.5, 0.13 * len(classes)), 2.8 + 1.8 * len(gains)))
    first, *others = figure.subplots(1 + len(gains), 1, sharex=True, height_ratios=[1.4] + [1] * len(gains))
    first.plot(classes, of_teacher, "o", color=COLOURS[0], markersize=4, label=teacher)
    first.plot(classes, of_student, "x", color=COLOURS[1], markersize=5, label=student)
    first.set(title=f"Accuracy of each class: {student}", ylabel="top-1 (%)")
    figure.legend(loc="outside upper right", ncols=2)
    for axes, part in zip(others, gains, strict=True):
        colours = [GAINED if value >= 0 else LOST for value in part.gain]
        whiskers = {"elinewidth": 0.8, "ecolor": "black"}
        axes.bar(classes, part.gain, color=colours, yerr=part.error, error_kw=whiskers)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(title=f"gain over {_named(part.over)}, ± one standard error", ylabel="points")
    others[-1].set_xlabel("class")
    others[-1].set_xticks(_ticks(len(classes)))
    others[-1].set_xlim(-0.8, len(classes) - 0.2)
    _name_classes(others[-1], texts, "x")
    return figure


def tsne_picture(points: Sequence[np.ndarray], names: Sequence[str], images: ShownImages) -> Figure:
    """One panel of M×2 points for each network, coloured by the true class; the panels' axes are independent."""
    columns = 2 if len(points) == 4 else min(3, len(points))
    rows = -(-len(points) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.9, 3.4 * rows + 0.5))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, xy, name in zip(panels, points, names, strict=False):
        texts = images.texts or list(map(str, images.classes))
        for colour, c, text in zip(COLOURS, images.classes, texts, strict=False):
            axes.plot(*xy[images.labels == c].T, ".", color=colour, markersize=4, label=text)
        axes.set(title=name, xticks=[], yticks=[])
    for axes in panels[len(points) :]:
        axes.set_axis_off()
    shown = len(images.classes)
    of = f"{shown} classes" if shown == images.num_classes else f"{shown} of {images.num_classes} classes"
    figure.suptitle(f"t-SNE of embeddings: {len(images.labels)} test images, {of}")
    handles, texts = figure.axes[0].get_legend_handles_labels()
    legend = figure.legend(handles, texts, title="class", loc="outside right center", markerscale=2)
    for text in legend.get_texts():
        text.set_parse_math(False)  # names of strangers may hold a $
    return figure


def curves_picture(picture: CurvePicture, band: Band) -> Figure:
    """Learning curves of one pair: mean test accuracy over trials after each epoch, with its band."""
    if all(len(curve.epochs) == 1 for curve in picture.curves):
        return _dot_plot(picture)
    figure = Figure(figsize=(7.5, 4.6))
    axes = figure.add_subplot()
    labels = [curve.label for curve in picture.curves]
    shown = leading_labels(labels, [float(curve.mean[-1]) for curve in picture.curves], (ALONE, REFERENCE))
    for number, curve in enumerate(curve for curve in picture.curves if curve.label in shown):
        colour = COLOURS[number % len(COLOURS)]
        trials = int(curve.n.max())
        axes.plot(curve.epochs, curve.mean, color=colour, label=f"{curve.label} ({counted(trials, 'trial')})")
        if trials > 1:
            axes.fill_between(curve.epochs, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
    if len(shown) < len(labels):
        axes.plot([], [], linestyle="none", label=f"{len(labels) - len(shown)} more in the CSV")
    if picture.teacher is not None:
        _teacher_line(axes, picture.teacher)
    axes.set(title=picture.title, xlabel="epoch", ylabel="test top-1 (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend = f"mean over trials,\n{BANDS[band]}"
    figure.legend(*axes.get_legend_handles_labels(), title=legend, loc="outside right upper", alignment="left")
    return figure


def _dot_plot(picture: CurvePicture) -> Figure:
    """Figures of runs of one epoch: a row for each label, its mean, and its band."""
    curves = sorted(picture.curves, key=lambda curve: float(curve.mean[0]))
    figure = Figure(figsize=(7.5, 1.2 + 0.2 * len(curves)))
    axes = figure.add_subplot()
    means, rows = np.array([curve.mean[0] for curve in curves]), range(len(curves))
    ends = np.array([[curve.mean[0] - curve.low[0], curve.high[0] - curve.mean[0]] for curve in curves])
    axes.errorbar(means, rows, xerr=ends.T, fmt="o", color=COLOURS[0], markersize=4, elinewidth=1.2)
    for curve, row in zip(curves, rows, strict=True):
        axes.plot(curve.last_of_trials, [row] * len(curve.last_of_trials), "o", color="black", markersize=2.5)
    axes.set_yticks(rows, [f"{curve.label} ({counted(int(curve.n[0]), 'trial')})" for curve in curves])
    axes.set(title=picture.title, xlabel="test top-1 (%) after one epoch")
    axes.grid(axis="x", linewidth=0.4)
    if picture.teacher is not None:
        axes.set_xlabel(f"test top-1 (%) after one epoch; the teacher has {picture.teacher:.2f}")
    return figure


def _named(name: str) -> str:
    """Returns the name of a network within a sentence."""
    return f"the {name}" if name in (ALONE, TEACHER) else name


def _teacher_line(axes: Axes, top1: float) -> None:
    """Draw the teacher's accuracy; only in the legend if it is so far from the curves that it would squeeze them."""
    if fits_beside(top1, *axes.get_ylim()):
        axes.axhline(top1, color="black", linewidth=0.8, linestyle=":", label="teacher")
    else:
        axes.plot([], [], linestyle="none", label=f"teacher: {top1:.2f}, outside the picture")


@dataclass(frozen=True)
class Scale:
    """Colours of a heat map, from `low` to `high`; with gamma 0.5 by the square root, so that small values differ."""

    low: float
    high: float
    gamma: float = 1.0

    def norm(self) -> Normalize:
        """The scale as Matplotlib takes it."""
        if self.gamma == 1:
            return Normalize(self.low, self.high)
        return PowerNorm(self.gamma, self.low, self.high)


def _heat_map(axes: Axes, values: np.ndarray, scale: Scale, label: str = "", decimals: int = 2) -> None:
    """Draw a matrix, with a colour bar of its own if there is a label for it."""
    # "none" leaves the cells to the program that shows an SVG; all others would enlarge them in the file.
    image = axes.imshow(values, cmap="viridis", norm=scale.norm(), interpolation="none", aspect="auto")
    if label:
        axes.figure.colorbar(image, ax=axes, label=label, shrink=0.9)
    axes.set_xticks(_ticks(values.shape[1]))
    axes.set_yticks(_ticks(values.shape[0]))
    if max(values.shape) <= LARGEST_ANNOTATED:
        for (row, column), value in np.ndenumerate(values):
            if not value:
                continue
            dark = image.norm(value) < 0.6
            colour = "white" if dark else "black"
            axes.text(column, row, f"{value:.{decimals}f}", ha="center", va="center", color=colour, fontsize=7)


def _ticks(count: int) -> range:
    """At most `MOST_TICKS` of so many places, by a step of 1, 2 or 5 times a power of ten."""
    step = next(step for step in (d * 10**e for e in range(9) for d in (1, 2, 5)) if count <= step * MOST_TICKS)
    return range(0, count, step)


def _name_classes(axes: Axes, texts: Sequence[str], which: str) -> None:
    """Put texts at the places of all classes on the axes in `which`, such as "xy"; of many classes the numbers stay."""
    if not texts or len(texts) > MOST_NAMED:
        return
    if "x" in which:
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, texts)) > 2 else {}
        axes.set_xticks(range(len(texts)), texts, parse_math=False, **turned)
    if "y" in which:
        axes.set_yticks(range(len(texts)), texts, parse_math=False)


def _top1(counts: np.ndarray) -> float:
    return 100 * np.trace(counts) / counts.sum()
