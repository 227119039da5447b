"""The HTML page of compare.py without a browser: what it says, that it is whole and safe, and that its links lead."""

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import compare
from reporting.formats.html import web
from reporting.formats.html.chart import COLOURS, DASHES, Scale, place_names
from reporting.formats.html.curve_charts import style_numbers
from reporting.formats.html.grid import number_key
from reporting.formats.html.verdict import verdicts
from tests.helpers import ROOT
from tests.reporting.test_compare import SCRIPT, TEACHER, write_run, write_suite

VOID = {"meta", "img", "input"}
HOSTILE = "kd <img src=x onerror=alert(1)> & \"two\" 'one' {{ 7*7 }} ünï→"


class Page(HTMLParser):
    """The elements of a page in order; `open` at the end is what was never closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, position in self.open:
            self.texts[position] = self.texts.get(position, "") + data

    def of(self, tag):
        """(attributes, text) of all elements of a kind."""
        return [(attrs, self.texts.get(i, "")) for i, (kind, attrs) in enumerate(self.elements) if kind == tag]

    def cells(self):
        return {text for tag in ("td", "th") for _, text in self.of(tag)}


def page_of(root, out=None, **options):
    return Page(web(compare.build_report([str(root)]), out, **options))


def said(root):
    return [f"{v.where}: {v.winner}: {v.text}" for v in verdicts(compare.build_report([str(root)]).table)]


# --- in short ---


def test_the_measured_runs_in_a_sentence_each():
    assert said(ROOT / "results/std_ablation") == [
        "cifar100 (light, 3 epochs, batch 128, fp32), resnet56 → mixer_nano: std std_modules=last+intermediate "
        "30.68 ± 0.41 (2 trials): +1.91 over the student alone (not significant, p = 0.489, interval -1.62 … +5.43); "
        "+0.77 over the next, std (not significant, p = 0.671, interval -1.15 … +2.69).",
    ]
    assert said(ROOT / "results/cifar100_short") == [
        "cifar100 (repdistiller, 4 epochs, batch 64, fp32), resnet56 → resnet20: kd 36.76 ± – (1 trial): "
        "+3.89 over the student alone and +5.35 over the next, crd; n too small for a test.",
    ]


def test_how_sure_is_corrected_for_what_the_winner_was_picked_from(tmp_path):
    lasts = write_suite(tmp_path)
    (sentence,) = said(tmp_path)
    of_std, of_kd = (stats.ttest_ind(lasts[name], lasts["none"], equal_var=False).pvalue for name in ("std", "kd"))
    p = 3 * of_std if of_std < of_kd else max(3 * of_kd, 2 * of_std)  # Holm's, of std, kd and crd
    assert 0.001 < p < 0.05
    assert f"std 60.53 ± 0.59 (3 trials): +5.40 over the student alone (significant, p = {p:.3f}, interval" in sentence
    assert sentence.endswith("+1.53 over the next, crd alpha=1 (n too small for a test).")


def test_a_difference_within_the_noise_is_not_significant(tmp_path):
    for trial, (alone, kd) in enumerate([(50.0, 50.5), (52.0, 51.9), (51.0, 51.5)], 1):
        write_run(tmp_path, f"none{trial}", alone, method="none", trial=trial)
        write_run(tmp_path, f"kd{trial}", kd, trial=trial)
    (sentence,) = said(tmp_path)
    assert "+0.30 over the student alone (not significant, p = 0.697" in sentence


def test_methods_below_the_student_alone_and_ties_are_said_to_be(tmp_path):
    write_run(tmp_path / "below", "none", 60.0, method="none")
    write_run(tmp_path / "below", "kd", 59.0)
    assert "No method is above the student alone; the best is kd 59.00" in said(tmp_path / "below")[0]
    for method in ("kd", "std"):
        write_run(tmp_path / "tie", method, 61.0, method=method)
    assert said(tmp_path / "tie")[0].endswith("kd and std 61.00: share the best mean: the best of all.")


def test_over_several_pairs_the_average_rank_has_a_sentence(tmp_path):
    for model in ("mixer_nano", "resnet20"):
        for method, last in (("kd", 60.0), ("std", 61.0)):
            write_run(tmp_path, model + method, last, method=method, model=model)
    assert said(tmp_path)[-1].endswith(
        "all pairs: std 1.00: best average rank of 2 methods over the 2 pairs that they share; next kd 2.00."
    )


# --- what is on the page ---


def test_curves_have_a_line_a_band_and_a_switch_for_every_method(tmp_path):
    write_suite(tmp_path)
    (tmp_path / "deep/er/kd_1/metrics.jsonl").write_text('rubbish\n{"epoch": 1, "test": {"top1": 40}}\n{"epoch": 2, "t')
    page = page_of(tmp_path)
    switched = [attrs["data-line"] for attrs, _ in page.of("input")]
    lines = {attrs["id"]: text.strip() for attrs, text in page.of("g") if "id" in attrs}
    assert switched == list(lines)
    assert [told.splitlines()[0] for told in lines.values()] == [
        "student alone (3 trials): 55.13 after epoch 2",
        "std (3 trials): 60.53 after epoch 2",
        "crd alpha=1 (1 trial): 59.00 after epoch 2",
        "kd (3 trials): 58.65 after epoch 2",  # of the two that have it
    ]
    assert len(page.of("polygon")) == 3  # bands of several trials only
    (teacher,) = (text for attrs, text in page.of("text") if attrs.get("class") == "named")
    assert teacher == "teacher 72.63"


def test_what_others_are_compared_with_has_a_style_of_its_own(tmp_path):
    """However many methods there are, and whatever they are called."""
    for method in ("none", "kd", *(f"a{number:02}" for number in range(45))):
        write_run(tmp_path, method, 60.0, method=method)
    styles = style_numbers(compare.build_report([str(tmp_path)]).table)
    assert (styles["student alone"], styles["kd"]) == (0, 1)
    others = [number for label, number in styles.items() if label not in ("student alone", "kd")]
    assert (len(others), set(others)) == (45, set(range(2, COLOURS * DASHES)))
    assert [styles["a00"], styles["a01"]] == [2, 3]


def test_costs_are_points_with_names(tmp_path):
    write_suite(tmp_path)
    told = [text for _, text in page_of(tmp_path).of("desc") if text.startswith("Test accuracy against")]
    assert len(told) == 2
    assert "std: 60.53 % at 2.00 seconds per epoch" in told[0]
    assert "student alone: 55.13 % at 10,000 images per second" in told[1]


def test_headings_captions_and_pictures_are_named_for_who_cannot_see_them(tmp_path):
    write_suite(tmp_path)
    write_run(tmp_path, "half", result=None)
    page = page_of(tmp_path)
    assert page.open == []
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert len(page.of("caption")) == len(page.of("table")) > 3
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs, _ in page.of("svg"):
        names = attrs.get("aria-labelledby", "").split()
        assert attrs.get("aria-hidden") == "true" or (len(names) == 2 and set(names) <= set(ids))


def test_what_was_not_counted_stands_there_with_its_reason(tmp_path):
    write_run(tmp_path, "a", 60.0)
    write_run(tmp_path, "b", 61.0, mtime=1)
    write_run(tmp_path, "half", result=None)
    write_run(tmp_path, "broken", result={"last": None})
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/config.json").write_text("{}")
    page = page_of(tmp_path)
    assert {"unfinished", "broken", "foreign", "no result yet (epoch 2 of 2)", "no"} <= page.cells()
    assert any("duplicate trial" in text for _, text in page.of("li"))


def test_a_page_without_finished_runs_is_whole(tmp_path):
    write_run(tmp_path, "half", result=None)
    page = page_of(tmp_path)
    assert page.open == []
    assert "No finished runs yet." in {text for _, text in page.of("p")}


def test_published_figures_and_other_selections_have_a_page_too(tmp_path):
    for method in ("none", "kd"):
        write_run(tmp_path, method, 60.0, 61.0, method=method, model="resnet20")
    for options in ({"published": True}, {"select": "best"}, {"by": "recipe.epochs"}):
        page = Page(web(compare.build_report([str(tmp_path)], **options)))
        assert page.open == []
        assert page.of("table")


def test_a_run_that_stands_in_several_groups_is_listed_once(tmp_path):
    command = {"device": "cpu", "command": ["train_student.py", "--distill", "kd"]}
    write_run(tmp_path, "kd", 60.0, environment=command)
    for mine in (False, True):
        write_run(tmp_path, f"std{mine}", 61.0, method="std", label=f"std {mine}", options={"mine": mine})
    page = Page(web(compare.build_report([str(tmp_path)], by="options.mine")))
    assert sum(text.startswith("kd (1 trial)") for _, text in page.of("title")) == 2  # it has a line in both groups
    assert "Finished runs (3)" in {text.strip() for _, text in page.of("caption")}
    (made,) = [text for _, text in page.of("li") if "train_student.py" in text]
    assert "2" not in made


# --- whole, safe and the same each time ---


def test_hostile_names_are_text_and_nothing_else(tmp_path):
    write_run(tmp_path, "<script>alert(1)</script>"[:8], 61.0, label=HOSTILE)
    write_run(tmp_path, "</title><b>"[:7], result=None)
    command = {"device": "cpu", "command": ["x", "</code><script>alert(2)</script>"]}
    write_run(tmp_path, 'a"b', 60.0, method="std", environment=command, model="<b>net")
    page = page_of(tmp_path, command="compare.py '<i>'")
    assert HOSTILE in page.cells()
    assert len(page.of("script")) == 1
    assert page.open == []
    assert not page.of("img")
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert any("alert(2)" in text for _, text in page.of("code"))


def test_the_page_asks_for_nothing_and_its_policy_lets_only_its_script_run(tmp_path):
    write_suite(tmp_path)
    page = page_of(tmp_path)
    script = page.of("script")[0][1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (attrs["content"] for attrs, _ in page.of("meta") if attrs.get("http-equiv"))
    assert policy == f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    assert not page.of("link")
    assert not [attrs for _, attrs in page.elements if "src" in attrs]
    style = page.of("style")[0][1]
    assert "url(" not in style
    assert "@import" not in style
    assert not [attrs["href"] for attrs, _ in page.of("a") if ":" in attrs["href"]]


@pytest.mark.parametrize("out", ["page.html", "deep/down/page.html", "save/page.html"])
def test_links_lead_to_the_records_wherever_the_page_lies(tmp_path, out):
    names = ["plain", "sp ace & <b> \"q\" 'a'", "100%25#x?y=1", "a:b", "ünï", os.fsdecode(b"not-utf8-\xff")]
    for trial, name in enumerate(names, 1):
        write_run(tmp_path / "save", name, trial=trial)
    (tmp_path / "save/plain/metrics.jsonl").unlink()
    place = tmp_path / out
    place.parent.mkdir(parents=True, exist_ok=True)
    page = page_of(tmp_path / "save", place)
    links = [attrs["href"] for attrs, _ in page.of("a") if not attrs["href"].startswith("#")]
    reached = {os.path.normpath(os.path.join(os.fsencode(place.parent), unquote_to_bytes(link))) for link in links}
    folders = [tmp_path / "save" / name for name in names]
    wanted = {*folders, *(f / "config.json" for f in folders), *(f / "metrics.jsonl" for f in folders[1:])}
    assert reached == {os.fsencode(path) for path in wanted}


def test_the_same_records_make_the_same_bytes_on_any_day_and_in_any_zone(tmp_path):
    write_suite(tmp_path / "runs")
    for path in (tmp_path / "runs").rglob("result.json"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    pages = []
    for zone, seed in (("UTC", "1"), ("Asia/Tokyo", "2")):
        command = [sys.executable, SCRIPT, "runs", "--out", "page.html"]
        environment = {**os.environ, "TZ": zone, "PYTHONHASHSEED": seed}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=60)
        pages.append((tmp_path / "page.html").read_bytes())
    assert pages[0] == pages[1]
    text = pages[0].decode()
    assert '<time datetime="2023-11-14T22:13Z">2023-11-14 22:13 UTC</time>' in text
    assert "python compare.py runs --out page.html" in text


# --- what scripts/analyse.py wrote ---


def write_analysis(folder, names=("std",), classes=3):
    """As scripts/analyse.py leaves it, with the pictures of confusion only."""
    students = [{"name": name, "model": "mixer_nano", "top1": 61.5, "agreement": 0.5} for name in names]
    teacher = {"name": "teacher", "model": "resnet56", "top1": 72.63}
    content = {"format": 1, "dataset": "cifar100", "test_images": 30, "teacher": teacher, "students": students}
    folder.mkdir(parents=True)
    (folder / "analysis.json").write_text(json.dumps(content))
    for name in names:
        (folder / name).mkdir()
        lines = [f"{c},10,{70 + c}.0,{60 + 5 * c}.0,{4 * c - 10}.0,50.0,{10 + 5 * c}.0" for c in range(classes)]
        head = "class,images,teacher,student,gain_over_teacher,alone,gain_over_alone"
        (folder / name / "classes.csv").write_text("\n".join([head, *lines]) + "\n")
        counts = [[6, 4, 0], [1, 7, 2], [0, 3, 7]]
        cells = [f"{r},{c},{int(r == c) * 10},{counts[r][c]},0" for r in range(3) for c in range(3)]
        (folder / name / "confusion.csv").write_text(
            "\n".join(["row,column,teacher,student,student_by_teacher", *cells])
        )
        (folder / name / "confusion.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return folder


def test_an_analysis_brings_its_numbers_and_pictures(tmp_path):
    write_run(tmp_path / "runs", "a")
    folder = write_analysis(tmp_path / "analysis")
    page = page_of(tmp_path / "runs", analysis=folder)
    (picture,) = page.of("img")
    prefix = "data:image/svg+xml;base64,"
    assert base64.b64decode(picture[0]["src"].removeprefix(prefix)) == (folder / "std/confusion.svg").read_bytes()
    assert picture[0]["alt"].startswith("std: confusion")
    bars = [attrs["class"] for attrs, _ in page.of("rect")]
    assert bars == ["lost", "lost", "lost", "gained", "gained", "gained"]
    rows = [text.split() for _, text in page.of("tr")]
    assert rows.index(["0", "1", "40.0", "0.0"]) < rows.index(["2", "1", "30.0", "0.0"])  # confused most often first
    assert ["0", "10", "70.00", "60.00", "-10.00", "50.00", "+10.00"] in rows
    (missing,) = (text for _, text in page.of("p") if text.startswith("Not in the folder"))
    assert missing == "Not in the folder of the analysis: std/correlation.svg, std/cka.svg, tsne.svg."


def test_without_an_analysis_the_page_says_how_to_make_one(tmp_path):
    write_run(tmp_path, "a")
    assert any("scripts/analyse.py --teacher" in text for _, text in page_of(tmp_path).of("code"))


@pytest.mark.parametrize("wrong", ["nothing", "half", "name", "table", "column"])
def test_an_analysis_that_cannot_be_read_is_refused_in_one_line(tmp_path, capsys, wrong):
    write_run(tmp_path / "runs", "a")
    folder = write_analysis(tmp_path / "analysis")
    if wrong == "nothing":
        (folder / "analysis.json").unlink()
    elif wrong == "half":
        (folder / "analysis.json").write_text('{"format": 1')
    elif wrong == "name":
        write_analysis(tmp_path / "elsewhere")
        (folder / "analysis.json").write_text(
            json.dumps({"format": 1, "teacher": {}, "students": [{"name": "../std"}]})
        )
    else:
        (folder / "std/classes.csv").write_text("class\nx\n" if wrong == "table" else "class,images\n1,2\n")
    out = tmp_path / "page.html"
    assert compare.main([str(tmp_path / "runs"), "--analysis", str(folder), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "scripts/analyse.py" in error
    assert not out.exists()


def test_an_analysis_is_for_pages_only(tmp_path, capsys):
    write_run(tmp_path / "runs", "a")
    folder = write_analysis(tmp_path / "analysis")
    assert compare.main([str(tmp_path / "runs"), "--analysis", str(folder), "--format", "markdown"]) == 2
    assert "--format html" in capsys.readouterr().err


# --- figures and places ---


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("31.31 ± – (1)", 31.31),
        ("+2.00 †", 2.0),
        ("-0.73", -0.73),
        ("1,143,780", 1143780.0),
        ("+1.20 … +3.40", 1.2),
        ("0.001", 0.001),
        ("< 0.001", 0.001 - 1e-9),
    ],
)
def test_cells_sort_by_the_number_that_they_begin_with(text, number):
    assert float(number_key(text)) == number


@pytest.mark.parametrize("text", ["", "n too small", "no spread", "–", "resnet56"])
def test_what_is_no_number_counts_as_missing(text):
    assert number_key(text) == ""


finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(st.lists(finite, min_size=1, max_size=20), st.booleans())
def test_ticks_are_few_in_order_and_within_the_chart(values, whole):
    scale = Scale(values, 0, 400, whole)
    positions = [tick.position for tick in scale.ticks()]
    assert positions == sorted(set(positions))
    assert len(positions) <= 8
    assert all(-0.1 <= position <= 400.1 for position in positions)
    assert all(0 <= scale(value) <= 400 for value in values)
    assert len({tick.label for tick in scale.ticks()}) == len(positions)


AROUND = [(200, 100, "kd"), (215, 100, "crd"), (185, 100, "pkt"), (200, 85, "dkd"), (200, 115, "fsp")]


@pytest.mark.parametrize(
    ("points", "places"),
    [
        ([], []),
        ([(200, 100, "kd")], [(208, 104, "start")]),
        # The chart ends at 480: of two letters the last ends at 458 + 16.8, of ten at 458 + 84.
        ([(450, 100, "kd")], [(458, 104, "start")]),
        ([(450, 100, "similarity")], [(442, 104, "end")]),
        # One point more each time closes the next of the places around the first: right, left, above, below.
        (AROUND[:2], [(192, 104, "end"), (223, 104, "start")]),
        (AROUND[:3], [(200, 91, "middle"), (223, 104, "start"), (177, 104, "end")]),
        (AROUND[:4], [(200, 118, "middle"), (223, 104, "start"), (177, 104, "end"), (208, 89, "start")]),
        (AROUND, [None, (223, 104, "start"), (177, 104, "end"), (208, 89, "start"), (208, 119, "start")]),
    ],
)
def test_names_stand_where_there_is_room(points, places):
    """To the right, else to the left, above and below; worked out by hand."""
    assert place_names(points) == places


@given(st.lists(st.tuples(st.floats(52, 466), st.floats(14, 274), st.sampled_from(["kd", "similarity"])), max_size=30))
def test_names_in_a_chart_cover_neither_each_other_nor_a_point(points):
    boxes = []
    for (_, _, name), place in zip(points, place_names(points), strict=True):
        if place is not None:
            x, y, anchor = place
            wide = 8.4 * len(name)
            left = {"start": x, "end": x - wide, "middle": x - wide / 2}[anchor]
            boxes.append((left, y - 11, left + wide, y + 3))
    if points:
        assert boxes or len(points) > 1  # a point of its own always has a name
    for i, box in enumerate(boxes):
        assert not any(_inside(box, x, y) for x, y, _ in points)
        assert all(np.min([box[2] - b[0], b[2] - box[0], box[3] - b[1], b[3] - box[1]]) <= 0.2 for b in boxes[i + 1 :])


def _inside(box, x, y):
    return box[0] < x < box[2] and box[1] < y < box[3]


def test_a_teacher_of_another_pair_is_no_line_of_this_one(tmp_path):
    write_run(tmp_path, "a", 60.0)
    write_run(tmp_path, "b", 61.0, teachers=[{**TEACHER, "model": "vgg13", "sha256": "cc", "top1": 74.5}])
    named = [text for attrs, text in page_of(tmp_path).of("text") if attrs.get("class") == "named"]
    assert named == ["teacher 72.63", "teacher 74.50"]
