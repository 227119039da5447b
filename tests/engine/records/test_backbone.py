"""What a probe records of its backbone: the training and the code behind it, as far as they are known."""

import json
from pathlib import Path

import pytest

from engine.checkpoints.start_weights import StartWeights
from engine.records.backbone import backbone_file, code_behind, trained_by

CODE = {"distiller_zoo/kd.py": "0123"}


def weights(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return tmp_path / "net.pth"


def test_a_run(tmp_path):
    path = weights(tmp_path, {"label": "kd alpha=0.5", "backbone": None, "code": CODE})
    assert trained_by(path) == "kd alpha=0.5"
    assert code_behind(path) == {"backbone: distiller_zoo/kd.py": "0123"}


def test_a_probe_names_its_own_backbone(tmp_path):
    backbone = {"trained_by": "kd", "code": {"backbone: distiller_zoo/kd.py": "0123"}}
    path = weights(tmp_path, {"label": "none", "backbone": backbone, "code": {"distiller_zoo/none.py": "4567"}})
    assert (trained_by(path), code_behind(path)) == ("kd", backbone["code"])


def test_a_run_of_an_earlier_version_is_of_unknown_code(tmp_path):
    path = weights(tmp_path, {"label": "kd", "sources": CODE})
    assert (trained_by(path), code_behind(path)) == ("kd", {})
    path = weights(tmp_path, {"label": "none", "backbone": {"trained_by": "kd", "sources": CODE}})
    assert (trained_by(path), code_behind(path)) == ("kd", {})


@pytest.mark.parametrize("config", [None, "{", "[1]", {"label": 3}, {}], ids=str)
def test_without_a_record_the_file_is_named(tmp_path, config):
    path = weights(tmp_path, config)
    assert (trained_by(path), code_behind(path)) == ("net.pth", {})


def test_a_file(tmp_path):
    path = weights(tmp_path, {"label": "kd", "code": CODE})
    file = backbone_file(StartWeights("resnet8", path, "ab", {}, None))
    assert (file.model, file.path, file.sha256) == ("resnet8", Path(path), "ab")
    assert (file.trained_by, file.code) == ("kd", {"backbone: distiller_zoo/kd.py": "0123"})
