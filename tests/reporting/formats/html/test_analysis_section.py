"""What scripts/analyse.py wrote, on the page."""

import base64
import json

import pytest

import compare
from reporting.formats.html.analysis_section import read_analysis
from tests.reporting.fake_runs import write_run
from tests.reporting.formats.html.analysis_files import write_analysis
from tests.reporting.formats.html.pages import page_of


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
    assert ["0", "10", "70.00", "60.00", "−10.00", "50.00", "+10.00"] in rows
    assert read_analysis(folder).missing == ("std/correlation.svg", "std/cka.svg", "tsne.svg")
    assert any("std/cka.svg" in text for _, text in page.of("p"))


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


def test_without_an_analysis_the_page_names_the_script_that_makes_one(tmp_path):
    write_run(tmp_path, "a")
    assert any("scripts/analyse.py --teacher" in text for _, text in page_of(tmp_path).of("code"))
