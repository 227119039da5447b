import json

import pytest

from engine.checkpoints.exports.description import Description
from engine.checkpoints.exports.model_card import card_text

FULL = Description(
    "resnet8",
    "pets",
    2,
    64,
    "uint8",
    classes=("cat", "dog"),
    source_sha256="ab" * 32,
    origin={
        "label": "kd",
        "teachers": [{"model": "resnet14", "sha256": "cd" * 32, "top1": 91.5}],
        "command": ["train_student.py", "--distill", "kd"],
    },
)


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "student.onnx"
    path.write_bytes(b"x" * 1234)
    return path


def test_a_card_says_what_is_known(exported):
    text = card_text(exported, FULL, {"top1": 88.25, "difference": 1e-6, "top1, eight bits": 87.5})
    for part in ("student.onnx", "1,234", "88.25", "87.50", "resnet14", "91.50", "cd" * 32, "cat, dog", "--distill kd"):
        assert part in text
    front = text.split("---")[1].strip().splitlines()
    index = json.loads(next(line for line in front if line.startswith("model-index")).partition(": ")[2])
    assert index[0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.8825}]


def test_a_card_leaves_out_what_is_not(exported):
    text = card_text(exported, Description("resnet8", "pets", 2, 64, "float"), {"difference": 1e-6})
    assert "model-index" not in text
    assert "Teacher" not in text
    assert "None" not in text
