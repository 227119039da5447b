"""The pictures: functions from numbers to figures, and `save`, which writes a figure reproducibly."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.agreement import Agreement, class_accuracy, row_shares
from analysis.embedding import ShownImages
from analysis.learning_curves import Band, CurvePicture
from common.files import write_bytes

STYLE = {
    "svg.hashsalt": "analysis",  # otherwise the ids of SVG elements are random
    "svg.fonttype": "none",  # text stays text
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "savefig.dpi": 200,
}
LARGEST_ANNOTATED = 12  # rows and columns of a heat map with numbers in its cells
MOST_TICKS = 12
COLOURS = [matplotlib.colormaps["tab10"](i) for i in range(10)]
LINES = ("-", "--", "-.", ":")
BANDS: dict[Band, str] = {"range": "band: least to greatest", "std": "band: ± one standard deviation"}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Context with Matplotlib's defaults and `STYLE`, whatever the user's settings, to make and save pictures in."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save(figure: Figure, path: Path) -> None:
    """Write `path`.svg and `path`.png without dates. Raises RunError if they cannot be written."""
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], metadata=metadata)
        figure.set_layout_engine("none")  # the layout is computed once: it takes longer than the drawing
        write_bytes(path.with_name(path.name + suffix), buffer.getvalue())


def correlation_picture(difference: np.ndarray, mean: float, teacher: str, student: str) -> Figure:
    """Picture of the K×K difference of two correlation matrices."""
    figure = Figure(figsize=(5.6, 5))
    axes = figure.add_subplot()
    _heat_map(axes, difference, "|difference|", low=0, high=None)
    axes.set(title=f"Correlations of class logits, {teacher} and {student}\nmean |difference| {mean:.4f}")
    axes.set(xlabel="class", ylabel="class")
    return figure


def cka_picture(
    cka: np.ndarray, teacher: str, teacher_layers: Sequence[str], student: str, student_layers: Sequence[str]
) -> Figure:
    """Picture of T×S linear CKA, one row for each layer of the teacher."""
    figure = Figure(figsize=(2.6 + 0.75 * len(student_layers), 2.2 + 0.6 * len(teacher_layers)))
    axes = figure.add_subplot()
    _heat_map(axes, cka, "linear CKA (unbiased)", low=0, high=1)
    axes.set_xticks(range(len(student_layers)), student_layers, rotation=30, ha="right")
    axes.set_yticks(range(len(teacher_layers)), teacher_layers)
    axes.set(title="Linear CKA, maps not pooled", xlabel=student, ylabel=teacher)
    return figure


def confusion_picture(agreement: Agreement, teacher: str, student: str) -> Figure:
    """Confusion matrices of the teacher, of the student, and of the student against the teacher."""
    figure = Figure(figsize=(13, 4.6))
    parts = (
        (agreement.teacher, f"{teacher}: top-1 {_top1(agreement.teacher):.2f} %", "true class", "prediction"),
        (agreement.student, f"{student}: top-1 {_top1(agreement.student):.2f} %", "true class", "prediction"),
        (
            agreement.student_by_teacher,
            f"agreement {100 * agreement.share:.2f} %, KL {agreement.kl:.4f} nats",
            f"prediction of {teacher}",
            f"prediction of {student}",
        ),
    )
    for axes, (counts, title, rows, columns) in zip(figure.subplots(1, 3), parts, strict=True):
        _heat_map(axes, row_shares(counts), "% of row", low=0, high=100, decimals=0)
        axes.set(title=title, xlabel=columns, ylabel=rows)
    return figure


def class_picture(agreement: Agreement, teacher: str, student: str, alone: np.ndarray | None = None) -> Figure:
    """Accuracy of each class, and gains over the teacher and over the student alone (`alone`: K accuracies in %)."""
    of_teacher, of_student = class_accuracy(agreement.teacher), class_accuracy(agreement.student)
    gains = [(of_student - of_teacher, teacher)]
    if alone is not None:
        gains.append((of_student - alone, "the student alone"))
    classes = np.arange(len(of_teacher))
    figure = Figure(figsize=(max(6.5, 0.13 * len(classes)), 2.8 + 1.8 * len(gains)))
    first, *others = figure.subplots(1 + len(gains), 1, sharex=True, height_ratios=[1.4] + [1] * len(gains))
    first.plot(classes, of_teacher, "o", color=COLOURS[0], markersize=4, label=teacher)
    first.plot(classes, of_student, "x", color=COLOURS[1], markersize=5, label=student)
    first.set(title=f"Accuracy of each class: {student}", ylabel="top-1 (%)")
    figure.legend(loc="outside upper right", ncols=2)
    for axes, (gain, baseline) in zip(others, gains, strict=True):
        axes.bar(classes, gain, color=[COLOURS[2] if value >= 0 else COLOURS[3] for value in gain])
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(title=f"gain over {baseline}", ylabel="points")
    others[-1].set_xlabel("class")
    others[-1].set_xticks(_ticks(len(classes)))
    return figure


def tsne_picture(points: Sequence[np.ndarray], names: Sequence[str], images: ShownImages) -> Figure:
    """One panel of M×2 points for each network, coloured by the true class; the panels' axes are independent."""
    columns = min(3, len(points))
    rows = -(-len(points) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.9, 3.4 * rows + 0.5))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, xy, name in zip(panels, points, names, strict=False):
        for colour, c in zip(COLOURS, images.classes, strict=False):
            axes.plot(*xy[images.labels == c].T, ".", color=colour, markersize=4, label=str(c))
        axes.set(title=name, xticks=[], yticks=[])
    for axes in panels[len(points) :]:
        axes.set_axis_off()
    shown = len(images.classes)
    of = f"{shown} classes" if shown == images.num_classes else f"{shown} of {images.num_classes} classes"
    figure.suptitle(f"t-SNE of embeddings: {len(images.labels)} test images, {of}")
    handles, texts = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, texts, title="class", loc="outside right center", markerscale=2)
    return figure


def curves_picture(picture: CurvePicture, band: Band) -> Figure:
    """Learning curves of one pair: mean test accuracy over trials after each epoch, with its band."""
    figure = Figure(figsize=(7.5, 4.6))
    axes = figure.add_subplot()
    for number, curve in enumerate(picture.curves):
        colour = COLOURS[number % len(COLOURS)]
        line = LINES[number // len(COLOURS) % len(LINES)]
        trials = int(curve.n.max())
        label = f"{curve.label} ({trials} trial{'s' if trials > 1 else ''})"
        marker = "o" if len(curve.epochs) == 1 else None  # a line of one point cannot be seen
        axes.plot(curve.epochs, curve.mean, color=colour, linestyle=line, marker=marker, markersize=4, label=label)
        if trials > 1:
            axes.fill_between(curve.epochs, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
    if picture.teacher is not None:
        _teacher_line(axes, picture.teacher)
    axes.set(title=picture.title, xlabel="epoch", ylabel="test top-1 (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend = f"mean over trials,\n{BANDS[band]}"
    figure.legend(*axes.get_legend_handles_labels(), title=legend, loc="outside right upper", alignment="left")
    return figure


def _teacher_line(axes: Axes, top1: float) -> None:
    """Draw the teacher's accuracy; only in the legend if it is so far above the curves that it would squeeze them."""
    low, high = axes.get_ylim()
    if top1 <= high + (high - low):
        axes.axhline(top1, color="black", linewidth=0.8, linestyle=":", label="teacher")
    else:
        axes.plot([], [], linestyle="none", label=f"teacher: {top1:.2f}, far above")


def _heat_map(axes: Axes, values: np.ndarray, label: str, low: float, high: float | None, decimals: int = 2) -> None:
    image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high, interpolation="nearest", aspect="auto")
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
    return range(0, count, -(-count // MOST_TICKS))


def _top1(counts: np.ndarray) -> float:
    return 100 * np.trace(counts) / counts.sum()
