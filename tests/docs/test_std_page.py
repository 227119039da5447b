"""The tables of docs/std.md have the numbers of the code and of the records."""

import re
from typing import Literal, get_args, get_origin

import torch
from torch.utils.flop_counter import FlopCounterMode

from distiller_zoo import Pair, create_method, options_of
from distiller_zoo.option_types import kind_of
from engine.protocol.presets import preset_names
from models import FeatureShapes, create_model
from reporting.tables.ablation import ablation_table
from scripts import ablate_std
from tests.docs.pages import tables_of, text_of
from tests.helpers import ROOT, read_json

PAGE = text_of("docs/std.md")
TEACHER = FeatureShapes(100, 8, (3, 4, 4), (), ())
BOTH = {"std_modules": "last+intermediate"}


def rows(header):
    """The rows of the table whose first cells these are."""
    (table,) = [table for table in tables_of(PAGE) if table[0][: len(header)] == header]
    return table[1:]


def count(module):
    return sum(p.numel() for p in module.parameters())


def on_meta(model, classes, size, options=None, teachers=1):
    """Student and STD without memory or arithmetic."""
    with torch.device("meta"):
        student = create_model(model, classes, size)
        pair = Pair(student.feature_shapes(), (TEACHER,) * teachers, 50)
        return student.eval(), create_method("std", pair, options).eval()


def test_options_and_their_defaults():
    options = options_of("std")
    table = rows(["flag", "default"])
    assert [row[0] for row in table] == [f"`--{name}`" for name in options]
    for (_, default, values, meaning), parameter in zip(table, options.values(), strict=True):
        assert default == ("off" if parameter.default is False else f"`{parameter.default}`")
        if get_origin(kind := kind_of(parameter.annotation)) is Literal:
            assert values == ", ".join(f"`{choice}`" for choice in get_args(kind))
        assert meaning


def shapes_of(model, classes, size):
    """The column of the table of shapes."""
    student, std = on_meta(model, classes, size, {"std_mine": True})
    blocks = student.feature_shapes().blocks
    channels, height, width = blocks[-1]
    _, std_two = on_meta(model, classes, size, {"std_teachers": "all"}, teachers=2)
    module, two, psi = std.branches[0], std_two.branches[0], std.mine.networks[0]
    matrices = (module.spatial_token[0], module.channel_token[0])
    for mlp in (module.spatial[0], module.channel[0]):
        matrices += (mlp.get_submodule("fc1").weight, mlp.get_submodule("fc2").weight)
    return [
        f"{len(blocks)}; {height * width}; {channels}; {classes}",
        ", ".join(str(block + 1) for block in on_meta(model, classes, size, BOTH)[1].blocks_read),
        *(f"{matrix.shape[0]}×{matrix.shape[1]}" for matrix in (*matrices, module.heads[0].weight)),
        *(f"{count(part):,}" for part in (student, module, two, psi)),
    ]


def test_shapes():
    (header, *table) = next(table for table in tables_of(PAGE) if "px" in table[0][1])
    networks = re.findall(r"`(\w+)`, (\d+) px", " ".join(header))
    columns = [shapes_of(name, 1000 if size == "224" else 100, int(size)) for name, size in networks]
    assert [row[1:] for row in table] == [list(row) for row in zip(*columns, strict=True)]


def multiply_adds(work):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        found = work()
    return counter.get_total_flops() / 2, found


def test_published_sizes():
    table = rows(["with two modules, 224 px"])
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


def test_sizes_of_other_forms():
    forms = {
        "one module": ({}, 1),
        "one module, M = 2": ({"std_teachers": "all"}, 2),
        "two modules, M = 2": ({**BOTH, "std_teachers": "all"}, 2),
        "two perceptrons a token": ({**BOTH, "std_layers": 2}, 1),
    }
    found = {name: sum(map(count, on_meta("mixer_s16", 1000, 224, *form))) for name, form in forms.items()}
    more = 2 * (196 * (256 + 1) + 512 * (2048 + 1))  # rows of W2 and W4, with their biases
    found["W2 and W4 compute all rows"] = sum(map(count, on_meta("mixer_s16", 1000, 224, BOTH))) + more
    assert {row[0]: row[1] for row in rows(["other form"])} == {k: f"{v / 1e6:.2f} M" for k, v in found.items()}


def test_hidden_widths_that_the_published_size_allows():
    """224 to 474 channels, of which the page speaks."""
    student, std = on_meta("mixer_s16", 1000, 224, BOTH)
    each = 2 * (197 + 1 + 1)  # parameters that a hidden channel more has in both modules: W1, its bias, W2
    rest = count(student) + count(std) - 256 * each
    widths = [width for width in range(1, 1000) if f"{(rest + width * each) / 1e6:.1f}" == "22.2"]
    assert (widths[0], widths[-1]) == (224, 474)


def test_presets_are_all_there():
    assert {row[0].strip("`") for row in rows(["preset"])} == {
        name for name in preset_names() if name.startswith("std-")
    }


def test_the_ablation_is_that_of_the_records():
    """The table is what the script prints, computed from the runs that are kept."""
    runs = [(path.parent, read_json(path)) for path in sorted((ROOT / "results/std_ablation").glob("*/config.json"))]
    settings = {}
    for row in ablate_std.ROWS[: ablate_std.MAIN]:
        options = {name: parameter.default for name, parameter in options_of(row.method).items()} | row.options
        settings[row.name] = [f for f, run in runs if (run["method"], run["options"]) == (row.method, options)]
        assert len(settings[row.name]) >= 2
    assert sum(map(len, settings.values())) == len(runs)
    table = ablation_table(settings)
    assert table in PAGE
    assert (ROOT / "results/std_ablation/table.md").read_text() == table + "\n"
