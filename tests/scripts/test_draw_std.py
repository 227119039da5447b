"""docs/figures/std.svg is what scripts/draw_std.py draws, and can be read on any page."""

import re
from xml.etree import ElementTree

import pytest

from scripts import draw_std


def test_figure_is_what_the_script_draws(tmp_path):
    committed = draw_std.PATH.read_bytes()
    assert draw_std.main(["--out", str(tmp_path / "std.svg")]) == 0
    assert (tmp_path / "std.svg").read_bytes() == committed


def elements():
    return [(e.tag.removeprefix("{http://www.w3.org/2000/svg}"), e) for e in ElementTree.parse(draw_std.PATH).iter()]


def test_figure_is_plain_and_self_contained():
    allowed = {"svg", "title", "desc", "style", "defs", "marker", "path", "rect", "line", "polyline", "text", "tspan"}
    for tag, element in elements():
        assert tag in allowed
        assert not [name for name in element.attrib if name.startswith("on") or name.endswith("href")]
    assert "url(" not in draw_std.PATH.read_text().replace("url(#head)", "")


def test_every_class_is_painted_in_both_palettes():
    used = {name for _, element in elements() for name in element.get("class", "").split()}
    for palette in (draw_std.LIGHT, draw_std.DARK):
        painted = set(re.findall(r"\.(\w+)", draw_std.rules(palette)))
        assert used - {"title"} == painted  # titles are text, in the ink of all text


def test_all_is_on_the_ground():
    for tag, element in elements():
        if tag == "rect":
            x, y, width, height = (float(element.get(name, 0)) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= x + width <= draw_std.WIDTH
            assert 0 <= y <= y + height <= draw_std.HEIGHT


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("palette", [draw_std.LIGHT, draw_std.DARK], ids=["light", "dark"])
def test_text_stands_out(palette):
    """By WCAG 2's contrast of text, 4.5 : 1."""
    pairs = [("quiet", "ground")]
    pairs += [("ink", ground) for ground in ("ground", "student", "std", "teacher", "loss")]
    for ink, ground in pairs:
        dark, bright = sorted((luminance(palette[ink]), luminance(palette[ground])))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)
