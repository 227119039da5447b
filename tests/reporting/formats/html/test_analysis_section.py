"""What scripts/analyse.py wrote, on the page."""

import base64
import json

import pytest

import compare
from common.errors import RequestError
from reporting.formats.html.analysis_section import read_analysis
from tests.reporting.fake_runs import write_run
from tests.reporting.formats.html.analysis_files import write_analysis, write_mistakes
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


HOSTILE_CLASS = "<b onclick=x>\"two\" 'one' {{ 7*7 }}"


def test_mistakes_are_shown_with_the_names_of_their_classes(tmp_path):
    write_run(tmp_path / "runs", "a")
    folder = write_analysis(tmp_path / "analysis", class_names=["cat", "dog", HOSTILE_CLASS])
    for name in ("teacher", "std"):
        write_mistakes(folder / name)
    page = page_of(tmp_path / "runs", analysis=folder)
    shown = [attrs for attrs, _ in page.of("img") if attrs["src"].startswith("data:image/png;base64,")]
    assert len(shown) == 2
    assert base64.b64decode(shown[0]["src"].partition(",")[2]) == b"a picture"
    assert shown[0]["alt"] == f"an image of cat, taken for {HOSTILE_CLASS}"
    assert shown[0]["title"] == "val/x/1.jpg"
    items = [text for _, text in page.of("li") if "98.7 %" in text]
    assert len(items) == 2
    assert items[0].startswith("cat")
    assert HOSTILE_CLASS in items[0]
    assert {"0 cat", "1 dog"} <= page.cells()  # in the table of confusions
    assert "cat" in page.cells()


def test_a_network_without_mistakes_says_so(tmp_path):
    folder = write_analysis(tmp_path / "analysis")
    write_mistakes(folder / "std")
    (folder / "std/mistakes.csv").write_text("rank,image,true,predicted,probability,of_true,picture,file\n")
    (student,) = read_analysis(folder).students
    assert student.gallery.mistakes == ()
    assert read_analysis(folder).gallery is None


def test_balanced_accuracy_is_shown_where_classes_are_uneven(tmp_path):
    even, uneven = (write_analysis(tmp_path / name) for name in ("even", "uneven"))
    table = uneven / "std/classes.csv"
    table.write_text(table.read_text().replace("0,10,", "0,90,", 1))
    found = [[name for name, _ in read_analysis(folder).summary.columns] for folder in (even, uneven)]
    assert ["balanced" in names for names in found] == [False, True]


def test_the_smaller_of_two_forms_of_a_picture_is_taken(tmp_path):
    folder = write_analysis(tmp_path / "analysis")
    (folder / "std/confusion.png").write_bytes(b"small")
    (student,) = read_analysis(folder).students
    assert student.pictures[0].address.startswith("data:image/png;")
    (folder / "std/confusion.png").write_bytes(b"large" * 100)
    (student,) = read_analysis(folder).students
    assert student.pictures[0].address.startswith("data:image/svg+xml;")


@pytest.mark.parametrize(
    ("picture", "size"),
    [("../../secret.png", 9), ("/etc/passwd", 9), ("mistakes/02.png", 9), ("mistakes/01.png", 10**6)],
)
def test_no_other_files_than_small_pictures_get_into_the_page(tmp_path, picture, size):
    folder = write_analysis(tmp_path / "analysis")
    write_mistakes(folder / "std", picture, b"x" * size)
    (tmp_path / "secret.png").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"png|mistakes"):
        read_analysis(folder)


def test_a_page_of_ten_networks_has_fewer_pictures_of_each(tmp_path):
    folder = write_analysis(tmp_path / "analysis", names=[f"s{number}" for number in range(10)])
    write_mistakes(folder / "s0")
    head, row = (folder / "s0/mistakes.csv").read_text().splitlines()
    (folder / "s0/mistakes.csv").write_text("\n".join([head, *[row] * 24]))
    assert len(read_analysis(folder).students[0].gallery.mistakes) == 10


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
