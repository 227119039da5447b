"""The HTML page without a browser: what it says, that it is whole and safe, and that its links lead."""

import base64
import hashlib
import itertools
import os
import re
import subprocess
import sys
from urllib.parse import unquote_to_bytes

import pytest

from reporting.formats.html.page import to_html
from tests.reporting.fake_runs import SCRIPT, build, write_run, write_suite
from tests.reporting.formats.html.pages import HOSTILE, Page, page_of


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
    assert "unfinished" in page.cells()


def test_published_figures_and_other_selections_have_a_page_too(tmp_path):
    for method in ("none", "kd"):
        write_run(tmp_path, method, 60.0, 61.0, method=method, model="resnet20")
    for options in ({"published": True}, {"select": "best"}, {"by": "recipe.epochs"}):
        page = page_of(tmp_path, report=options)
        assert page.open == []
        assert page.of("table")


def test_a_run_that_stands_in_several_groups_is_listed_once(tmp_path):
    command = {"device": "cpu", "command": ["train_student.py", "--distill", "kd"]}
    write_run(tmp_path, "kd", 60.0, environment=command)
    for mine in (False, True):
        write_run(tmp_path, f"std{mine}", 61.0, method="std", label=f"std {mine}", options={"mine": mine})
    page = page_of(tmp_path, report={"by": "options.mine"})
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


@pytest.mark.runs
def test_the_same_records_make_the_same_bytes_on_any_day_and_in_any_zone(tmp_path):
    write_suite(tmp_path / "runs")
    for path in (tmp_path / "runs").rglob("result.json"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    pages = []
    for zone, seed in (("UTC", "1"), ("Asia/Tokyo", "2")):
        command = [sys.executable, SCRIPT, "runs", "--out", "page.html", "--overwrite"]
        environment = {**os.environ, "TZ": zone, "PYTHONHASHSEED": seed}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=60)
        pages.append((tmp_path / "page.html").read_bytes())
    assert pages[0] == pages[1]
    text = pages[0].decode()
    assert '<time datetime="2023-11-14T22:13Z">2023-11-14 22:13 UTC</time>' in text
    assert "python compare.py runs --out page.html --overwrite" in text


def test_texts_of_records_are_escaped(tmp_path):
    write_run(tmp_path, "<i>", 61.0, label="kd <script> & co")
    write_run(tmp_path, "<b>", result=None)
    text = to_html(build(tmp_path))
    page = Page(text)
    assert "kd <script> & co" in page.cells()
    assert "61.00 (1)" in page.cells()
    assert "<script>" not in text
    assert "<b>: unfinished" not in text
    assert "http" not in text
