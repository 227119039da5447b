"""Pictures show the numbers that they are given."""

import dataclasses
import io

import numpy as np
from PIL import Image

from analysis import pictures
from analysis.agreement import Agreement
from analysis.embedding import ShownImages
from analysis.learning_curves import Curve, CurvePicture


def test_heat_maps_show_the_numbers():
    values = np.linspace(0, 1, 15).reshape(3, 5)
    figure = pictures.cka_picture(values, "teacher", ["a", "b", "c"], "kd", list("vwxyz"))
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert axes.images[0].get_clim() == (0, 1)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("teacher", "kd")
    assert [(t.get_position(), t.get_text()) for t in axes.texts][:2] == [((1, 0), "0.07"), ((2, 0), "0.14")]


def test_curves_have_a_band_where_there_are_several_trials():
    epochs, one = np.array([1, 2]), np.array([1.0, 2.0])
    several = Curve("kd", epochs, np.array([3, 3]), one, one - 0.5, one + 0.5)
    single = dataclasses.replace(several, label="std", n=np.array([1, 1]))
    figure = pictures.curves_picture(CurvePicture("name", "title", (several, single), teacher=3.0), "range")
    axes = figure.axes[0]
    assert len(axes.collections) == 1
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 1], [2, 2]])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["kd (3 trials)", "std (1 trial)", "teacher"]
    assert "least to greatest" in figure.legends[0].get_title().get_text()


def test_a_teacher_far_above_the_curves_is_named_and_does_not_press_them_together():
    top1 = np.array([10.0, 20.0])
    curve = Curve("kd", np.array([1, 2]), np.array([1, 1]), top1, top1, top1)
    near, far = (CurvePicture("name", "title", (curve,), teacher=taught) for taught in (30.0, 70.0))
    near, far = (pictures.curves_picture(picture, "range") for picture in (near, far))
    assert near.axes[0].get_ylim()[1] > 30
    assert far.axes[0].get_ylim()[1] < 25
    (legend,) = far.legends
    assert [text.get_text() for text in legend.get_texts()] == ["kd (1 trial)", "teacher: 70.00, outside the picture"]


def test_tsne_says_how_many_classes_of_how_many():
    labels = np.array([0, 3, 3])
    figure = pictures.tsne_picture([np.ones((3, 2))] * 4, list("abcd"), ShownImages(np.arange(3), labels, [0, 3], 100))
    assert figure.get_suptitle() == "t-SNE of embeddings: 3 test images, 2 of 100 classes"
    assert [axes.get_title() for axes in figure.axes if axes.axison] == list("abcd")
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [1, 2]


def test_the_users_settings_change_nothing(tmp_path):
    made = []
    for size in (9, 30):
        with pictures.matplotlib.rc_context({"font.size": size, "svg.fonttype": "path"}), pictures.style():
            figure = pictures.correlation_picture(np.eye(3), 0.5, ("teacher", "kd"), 1.5)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
            made.append(buffer.getvalue())
    assert made[0] == made[1]


def test_four_maps_are_two_by_two():
    shown = ShownImages(np.arange(3), np.array([0, 3, 3]), [0, 3], 100)
    figure = pictures.tsne_picture([np.ones((3, 2))] * 4, list("abcd"), shown)
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 2)


def test_compared_correlations_have_one_scale():
    low, high = (pictures.correlation_picture(np.eye(3) * most, 0.5, ("t", "s"), 1.5) for most in (0.5, 1.5))
    assert low.axes[0].images[0].get_clim() == high.axes[0].images[0].get_clim() == (0, 1.5)


def test_small_classes_of_a_confusion_say_how_many_images_they_have():
    counts = np.array([[5, 3], [1, 200]])
    agreement = Agreement(0.9, 0.9, 0.9, 0.1, counts, counts, counts)
    figure = pictures.confusion_picture(agreement, "teacher", "kd")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["0 (n 8)", "1 (n 201)"]
    assert "kd beside the teacher" in figure.axes[2].get_title()


def test_names_of_few_classes_stand_on_the_axes():
    """A dollar is no formula, and the rows of the second panel are those of the first."""
    counts, names = np.diag([200, 300]), ["$x_1$", "犬"]
    agreement = Agreement(0.9, 0.9, 0.9, 0.1, counts, counts, counts)
    figure = pictures.confusion_picture(agreement, "teacher", "kd", names)
    first, second, _, *_ = figure.axes
    assert [tick.get_text() for tick in first.get_xticklabels()] == names
    assert [tick.get_text() for tick in first.get_yticklabels()] == names
    assert not any(tick.get_parse_math() for tick in first.get_xticklabels())
    assert {tick.get_text() for tick in second.get_yticklabels()} == {""}
    many = pictures.correlation_picture(np.eye(100), 0.5, ("t", "s"), 1.5, [f"class {c}" for c in range(100)])
    assert [tick.get_text() for tick in many.axes[0].get_xticklabels()][:3] == ["0", "10", "20"]


def test_a_font_without_a_letter_is_no_warning(tmp_path, recwarn):
    with pictures.style():
        pictures.save(pictures.correlation_picture(np.eye(2), 0.5, ("t", "s"), 1.0, ["犬", "猫"]), tmp_path / "c")
    assert not recwarn.list
    assert "犬" in (tmp_path / "c.svg").read_text()


def test_a_picture_of_few_colours_has_a_palette(tmp_path):
    with pictures.style():
        shown = ShownImages(np.arange(3), np.array([0, 3, 3]), [0, 3], 100, ["cat", "$dog"])
        figure = pictures.tsne_picture([np.ones((3, 2))] * 2, list("ab"), shown)
        pictures.save(figure, tmp_path / "few", few_colours=True)
        pictures.save(figure, tmp_path / "all")
    assert (Image.open(tmp_path / "few.png").mode, Image.open(tmp_path / "all.png").mode) == ("P", "RGBA")
    assert Image.open(tmp_path / "few.png").size == Image.open(tmp_path / "all.png").size
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["cat", "$dog"]


def test_small_confusions_have_colours_of_their_own():
    counts = np.array([[96, 4], [0, 100]])
    agreement = Agreement(0.9, 0.9, 0.9, 0.1, counts, counts, counts)
    image = pictures.confusion_picture(agreement, "teacher", "kd").axes[0].images[0]
    assert image.get_clim() == (0, 100)
    assert image.norm(4.0) == 0.2


def test_runs_of_one_epoch_have_a_row_each():
    one = [
        Curve(name, np.array([1]), np.array([1]), *[np.array([top1])] * 3, (top1,))
        for name, top1 in (("a", 1), ("b", 2))
    ]
    figure = pictures.curves_picture(CurvePicture("name", "title", tuple(one), teacher=70.0), "range")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a (1 trial)", "b (1 trial)"]
    assert figure.axes[0].get_xlim()[1] < 5


def test_of_many_curves_the_best_and_the_references_are_drawn():
    names = ["student alone", "kd", *(f"m{number}" for number in range(9))]
    ends = [np.array([1.0, 2.0 + number]) for number in range(len(names))]
    curves = [
        Curve(name, np.array([1, 2]), np.array([1, 1]), *[end] * 3) for name, end in zip(names, ends, strict=True)
    ]
    figure = pictures.curves_picture(CurvePicture("name", "title", tuple(curves)), "range")
    texts = [text.get_text().split(" (")[0] for text in figure.legends[0].get_texts()]
    assert texts == ["student alone", "kd", "m4", "m5", "m6", "m7", "m8", "4 more in the CSV"]
