"""Classes from labels.csv: forms of tables that are read, and what is refused."""

import shutil

import pytest

from common.errors import RequestError
from dataset import DATASETS, check_images
from dataset.label_table import read_label_table
from tests.dataset.photographs import NAME, train
from tests.helpers import folder_of, read_json

IMAGES = ["a/1.jpg", "a/2.jpg", "b/caf\u00e9.png", "b/1.png"]
LABELS = {"a/1.jpg": "x", "a/2.jpg": "y", "b/caf\u00e9.png": "x"}
PLAIN = "file,label\na/1.jpg,x\na/2.jpg,y\nb/caf\u00e9.png,x\n"


def read(tmp_path, text, images=IMAGES):
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_label_table(path, images)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("e\u0301", "\u00e9").replace("\u00e9", "e\u0301"),
        PLAIN.replace("a/", "./a/"),
        PLAIN.replace("a/1", "a\\1"),
        PLAIN.replace("file,label", "Image ID,Species"),
        PLAIN.replace("file,label", "file,breed of dog"),
        PLAIN.replace("file,label", "which,class"),
        PLAIN.replace("file,label", "one,two"),
        PLAIN.replace(",x", ", x "),
        PLAIN.replace("a/2.jpg", '"a/2.jpg"') + "\n\n",
        PLAIN + "a/1.jpg,x\n",
        "id,file,label,age\n7,a/1.jpg,x,1\n8,a/2.jpg,y,2\n9,b/caf\u00e9.png,x,\n",
        PLAIN.replace("a/2.jpg", "2").replace("b/caf\u00e9.png", "caf\u00e9.png"),
    ],
)
def test_forms_of_one_table(tmp_path, text):
    assert dict(read(tmp_path, text).labels) == LABELS


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "file,label"),
        ("file,label\n", "file,label"),
        (PLAIN.encode("utf-16"), "UTF-8"),
        (PLAIN.encode("latin-1"), "UTF-8"),
        (PLAIN.replace("a/2", "a/3") + "c.jpg,x\n", "a/3.jpg"),
        (PLAIN.replace("a/2", "a/3") + "c.jpg,x\n", "2 of 4"),
        (PLAIN + "a/1.jpg,y\n", "a/1.jpg"),
        (PLAIN.replace("a/2.jpg,y", "a/2.jpg,"), "line 3"),
        (PLAIN.replace("a/2.jpg,y", "a/2.jpg,y,z"), "line 3"),
        (PLAIN.replace("a/1.jpg", "1"), "a/1.jpg"),
        ("file,label,class\na/1.jpg,x,y\n", "label"),
        ("file,age,height\na/1.jpg,x,y\n", "label"),
        ("one,two\nx,y\n", "one"),
        (PLAIN + '"a', "line"),
    ],
)
def test_what_is_refused(tmp_path, text, named):
    with pytest.raises(RequestError) as refusal:
        read(tmp_path, text)
    assert named in str(refusal.value)


@pytest.mark.parametrize(
    ("labels", "order"),
    [("10 9 1", ["1", "9", "10"]), ("1.5 10 9", ["1.5", "9", "10"]), ("b 10 9", ["10", "9", "b"])],
)
def test_numbers_are_sorted_as_numbers(tmp_path, labels, order):
    rows = "".join(f"{number},{label}\n" for number, label in enumerate(labels.split()))
    table = read(tmp_path, "file,label\n" + rows, [f"{number}.png" for number in range(3)])
    assert table.classes == order


def table_of(pictures, split=False):
    """labels.csv in pets/, whose images lie in one folder; every class has the first letter of its animal."""
    pets = pictures / "pets"
    lines = ["file,label" + ",split" * split]
    (pets / "all").mkdir()
    for part in ("train", "val"):
        for path in sorted(pets.glob(f"{part}/*/*.*")):
            if path.suffix != ".txt":
                name = f"{part}-{path.parent.name}-{path.name}"
                path.rename(pets / "all" / name)
                lines.append(f"all/{name},{path.parent.name[0]}" + f",{part}" * split)
        shutil.rmtree(pets / part)
    (pets / "labels.csv").write_text("\n".join(lines) + "\n")
    return pets / "labels.csv"


def test_a_folder_with_a_table(pictures):
    table_of(pictures)
    shutil.copy(pictures / "pets/all/val-cats-0.png", pictures / "pets/extra.png")
    entry = DATASETS.find(NAME, pictures)
    data = entry.load(pictures)
    assert entry.classes == ("c", "d", "e")
    assert entry.train_size + entry.test_size == 33
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        assert set(labels.tolist()) == {0, 1, 2}
        for row, label in enumerate(labels.tolist()):
            assert images.path(row).name.split("-")[1][0] == "cde"[label]
    assert "split" in entry.notes[0]
    assert any("1 image " in note for note in entry.notes)


def test_a_column_for_the_part(pictures):
    table = table_of(pictures, split=True)
    entry = DATASETS.find(NAME, pictures)
    assert (entry.train_size, entry.test_size) == (24, 9)
    assert all("all/val-" in entry.load(pictures).test_images.label(row) for row in range(9))
    table.write_text(table.read_text().replace(",val", ",evening"))
    with pytest.raises(RequestError, match="evening"):
        DATASETS.find(NAME, pictures)


def test_a_table_beside_both_parts_is_not_read(pictures):
    (pictures / "pets/labels.csv").write_text("nothing")
    entry = DATASETS.find(NAME, pictures)
    assert entry.test_size == 9
    assert any("labels.csv" in note for note in entry.notes)


def test_a_damaged_image_is_replaced_by_one_of_its_class(pictures):
    """The class is the table's: all images lie in one folder."""
    table_of(pictures, split=True)
    (pictures / "pets/all/train-dogs-0.png").write_bytes(b"")
    data, found = check_images(DATASETS.find(NAME, pictures).load(pictures))
    assert list(found.damaged) == ["pets/all/train-dogs-0.png"]
    (row,) = (row for row in range(24) if data.train_images.label(row) in found.damaged)
    assert set(data.train_images[range(24)].rows_of_class(row)) == set(range(8, 16))
    assert not found.empty_class


@pytest.mark.runs
def test_a_run_that_leaves_out_a_damaged_image(pictures, tmp_path, capsys):
    table_of(pictures)
    (pictures / "pets/all/train-dogs-0.png").write_bytes(b"")
    assert train(pictures, tmp_path) == 2
    assert "train-dogs-0.png" in capsys.readouterr().err
    assert train(pictures, tmp_path, "--skip_bad_images") == 0
    config = read_json(folder_of(tmp_path) / "config.json")
    assert list(config["left_out"]) == ["pets/all/train-dogs-0.png"]
    assert config["classes"] == ["c", "d", "e"]
