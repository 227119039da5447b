"""Pictures show the numbers that they are given."""

import dataclasses
import io

import numpy as np

from analysis import pictures
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
