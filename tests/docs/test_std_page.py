"""docs/std.md and its figure say what the code does: options, shapes, sizes, presets, commands, and the drawing."""

import re
import shlex
from typing import get_args
from xml.etree import ElementTree

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import train_student
import train_teacher
from distiller_zoo import METHODS, Pair, create_method, options_of
from distiller_zoo.std import module_blocks
from engine.protocol.presets import FOLDER, preset_names, read_preset
from models import FeatureShapes, create_model
from reporting.tables.ablation import ablation_table
from scripts import ablate_std, draw_std
from tests.helpers import ROOT, read_json

PAGE = (ROOT / "docs" / "std.md").read_text()
PROSE = " ".join(PAGE.split())  # without line breaks
TEACHER = FeatureShapes(100, 8, (3, 4, 4), (), ())
BOTH = {"std_modules": "last+intermediate"}


def rows(heading):
    """The cells of the table whose first line begins so, without that line and the rule below it."""
    lines = PAGE[PAGE.index(f"\n{heading}") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def count(module):
    return sum(p.numel() for p in module.parameters())


def on_meta(model, classes, size, options=None, teachers=1):
    """Student and STD without memory or arithmetic."""
    with torch.device("meta"):
        student = create_model(model, classes, size)
        pair = Pair(student.feature_shapes(), (TEACHER,) * teachers, 50)
        return student.eval(), create_method("std", pair, options).eval()


# --- options --------------------------------------------------------------------------------------


def test_options_and_their_defaults():
    options = options_of("std")
    table = rows("| flag | default |")
    assert [row[0] for row in table] == [f"`--{name}`" for name in options]
    for (_, default, values, meaning), parameter in zip(table, options.values(), strict=True):
        assert default == ("off" if parameter.default is False else f"`{parameter.default}`")
        if choices := get_args(parameter.annotation):
            assert values == ", ".join(f"`{choice}`" for choice in choices)
        assert meaning


def test_weights():
    weights = METHODS["std"].weights
    assert (weights.gamma, weights.alpha, weights.beta) == (0.5, 0, 0.5)
    assert "γ = β = ½" in PAGE


# --- shapes and sizes -----------------------------------------------------------------------------


def by(rows_, columns):
    return f"{rows_}×{columns}"


def shapes_of(model, classes, size):
    """The column of the table of shapes."""
    student, std = on_meta(model, classes, size, {"std_mine": True})
    blocks = student.feature_shapes().blocks
    channels, height, width = blocks[-1]
    patches = height * width
    _, std_two = on_meta(model, classes, size, {"std_teachers": "all"}, teachers=2)
    module, two, psi = std.branches[0], std_two.branches[0], std.mine.networks[0]
    mlp_s, mlp_c = module.spatial[0], module.channel[0]
    matrices = (module.spatial_token[0], module.channel_token[0])
    matrices += tuple(mlp.get_submodule(name).weight for mlp in (mlp_s, mlp_c) for name in ("fc1", "fc2"))
    return [
        f"{len(blocks)}; {patches}; {channels}; {classes}",
        ", ".join(str(i + 1) for i in module_blocks("last+intermediate", len(blocks))),
        *(by(*matrix.shape) for matrix in (*matrices, module.heads[0].weight)),
        *(f"{count(part):,}" for part in (student, module, two, psi)),
    ]


def test_shapes():
    (heading,) = re.findall(r"^\| \| `mixer_nano`.*$", PAGE, re.MULTILINE)
    models = re.findall(r"`(\w+)`, (\d+) px", heading)
    assert [name for name, _ in models] == ["mixer_nano", "mixer_s4", "mixer_s16"]
    columns = [shapes_of(name, 1000 if size == "224" else 100, int(size)) for name, size in models]
    assert [row[1:] for row in rows(heading)] == [list(row) for row in zip(*columns, strict=True)]


def multiply_adds(work):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        found = work()
    return counter.get_total_flops() / 2, found


def test_published_sizes():
    table = rows("| with two modules, 224 px |")
    assert len(table) == 3
    for name, parameters, published, operations, operations_published in table:
        student, std = on_meta(re.search(r"`(\w+)`", name)[1], 1000, 224, BOTH)
        total = count(student) + count(std)
        assert parameters == f"{total:,}"
        assert published == f"{total / 1e6:.1f} M"
        own, features = multiply_adds(lambda student=student: student.features(torch.empty(1, 3, 224, 224).to("meta")))
        added, _ = multiply_adds(lambda std=std, features=features: std.attach(features))
        assert operations == f"{own / 1e9:.2f} + {added / 1e9:.2f} = {(own + added) / 1e9:.2f} G"
        rounded = round(own / 1e9, 1) + round(added / 1e9, 2)
        assert operations_published in (f"{(own + added) / 1e9:.1f} G", f"{rounded:.1f} G")


@pytest.mark.parametrize(
    ("form", "options", "teachers"),
    [
        ("one module", {}, 1),
        ("one module, M = 2", {"std_teachers": "all"}, 2),
        ("two, M = 2", {**BOTH, "std_teachers": "all"}, 2),
        ("two perceptrons a token", {**BOTH, "std_layers": 2}, 1),
    ],
)
def test_sizes_of_other_forms(form, options, teachers):
    student, std = on_meta("mixer_s16", 1000, 224, options, teachers)
    total = f"{(count(student) + count(std)) / 1e6:.2f} M"
    assert f"{total} ({form})" in PROSE


def test_size_of_perceptrons_that_compute_all_rows():
    student, std = on_meta("mixer_s16", 1000, 224, BOTH)
    more = 2 * (196 * (256 + 1) + 512 * (2048 + 1))  # rows of W2 and W4, with their biases
    assert f"{(count(student) + count(std) + more) / 1e6:.2f} M (W2 and W4 compute all rows)" in PROSE


def test_hidden_widths_that_the_published_size_allows():
    student, std = on_meta("mixer_s16", 1000, 224, BOTH)
    each = 2 * (197 + 1 + 1)  # parameters that a hidden channel more has in both modules: W1, its bias, W2
    rest = count(student) + count(std) - 256 * each
    widths = [width for width in range(1, 1000) if f"{(rest + width * each) / 1e6:.1f}" == "22.2"]
    assert f"{widths[0]} to {widths[-1]} hidden" in PROSE


# --- presets --------------------------------------------------------------------------------------


def test_presets():
    table = {row[0].strip("`"): row[1:] for row in rows("| preset | modules |")}
    assert set(table) == {name for name in preset_names() if name.startswith("std-")}
    for name, (modules, teachers, mine, reported) in table.items():
        flags = read_preset(name).flags
        sharing = f": `{flags['std_teachers']}`" if "std_teachers" in flags else ""
        assert teachers == ", ".join(flags.get("model_t", [])) + sharing
        assert mine == (flags["std_mine_pairs"] if flags.get("std_mine") else "")
        text = (FOLDER / f"{name}.toml").read_text().replace("\n# ", " ")
        figures = re.search(r"Reported there: ([\d.]+) top-1, ([\d.]+) top-5", text)
        assert reported == (", ".join(figures.groups()) if figures else "–")
        if flags["distill"] == "none":
            assert modules == "student alone"
        else:
            assert modules.split(",")[0] == f"`{flags['std_modules']}`"
            assert ("propagated" in modules) is flags.get("std_propagate", False)
            assert ("head at the last" in modules) is (flags.get("std_heads") == "last")
        of_cifar = (flags["model_s"], flags["dataset"], flags["batch_size"]) == ("mixer_s4", "cifar100", 128)
        of_imagenet = (flags["model_s"], flags["dataset"], flags["batch_size"]) == (
            "mixer_s16", "folder:imagenet@224", 1024,
        )  # fmt: skip
        assert of_imagenet if name == "std-imagenet" else of_cifar
        assert (flags["recipe"], flags["epochs"]) == ("deit", 300)
    assert "300 epochs, batch 128" in PROSE


# --- the short ablation ---------------------------------------------------------------------------


def test_the_ablation_is_that_of_the_records():
    """The table is what the script prints, computed from the runs that are kept."""
    runs = [(path.parent, read_json(path)) for path in sorted((ROOT / "results/std_ablation").glob("*/config.json"))]
    settings = {}
    for row in ablate_std.ROWS[: ablate_std.MAIN]:
        options = {name: parameter.default for name, parameter in options_of(row.method).items()} | row.options
        settings[row.name] = [f for f, run in runs if (run["method"], run["options"]) == (row.method, options)]
        assert len(settings[row.name]) >= 2
    assert sum(map(len, settings.values())) == len(runs)
    assert {run["protocol"] for _, run in runs} == {"light, 3 epochs, batch 128, fp32"}
    table = ablation_table(settings)
    assert table in PAGE
    assert (ROOT / "results/std_ablation/table.md").read_text() == table + "\n"


# --- commands and links ---------------------------------------------------------------------------

COMMANDS = re.findall(r"^python (?!scripts/draw)(\S+)\.py (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("script", "words"), COMMANDS)
def test_commands_are_understood(script, words):
    parse = {
        "train_student": train_student.parse,
        "train_teacher": train_teacher.parse,
        "scripts/ablate_std": ablate_std.parse,
    }[script]
    parse(shlex.split(words, comments=True))


def test_commands_are_found():
    assert len(COMMANDS) == 9


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert links
    for link in links:
        assert (ROOT / "docs" / link.partition("#")[0]).is_file()


# --- the figure -----------------------------------------------------------------------------------


def test_figure_is_what_the_script_draws(tmp_path):
    committed = draw_std.PATH.read_bytes()
    assert draw_std.main(["--out", str(tmp_path / "std.svg")]) == 0
    assert (tmp_path / "std.svg").read_bytes() == committed, "draw it anew: python scripts/draw_std.py"


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
