import json

import pytest
import torch

from common.errors import RequestError
from engine.checkpoints.exports.source import load_deployed
from tests.helpers import save_network


def test_a_file_from_elsewhere_needs_its_data_set(tmp_path):
    network = save_network(tmp_path / "own.pth")
    torch.save(network.state_dict(), tmp_path / "resnet8.pth")
    with pytest.raises(RequestError, match="--dataset"):
        load_deployed(tmp_path / "resnet8.pth")


def test_the_training_is_told_where_it_is_known(tmp_path):
    save_network(tmp_path / "own.pth")
    assert "label" not in load_deployed(tmp_path / "own.pth")[1].origin
    config = {
        "label": "kd alpha=0.5",
        "teachers": [{"model": "resnet14", "sha256": "cd", "top1": 91.5, "path": "/home/me/secret.pth"}],
        "environment": {
            "command": ["train_student.py", "--path_t", "/home/secret/t.pth"],
            "git_commit": "abc",
            "torch": "2",
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    origin = load_deployed(tmp_path / "own.pth")[1].origin
    assert origin["label"] == "kd alpha=0.5"
    assert origin["teachers"] == [{"model": "resnet14", "sha256": "cd", "top1": 91.5}]
    assert origin["command"] == ["train_student.py", "--path_t", "t.pth"]
    assert "secret" not in json.dumps(origin)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"environment": 3, "teachers": 4}', "[" * 9999])
def test_a_damaged_config_is_no_obstacle(tmp_path, text):
    save_network(tmp_path / "own.pth")
    (tmp_path / "config.json").write_text(text)
    assert load_deployed(tmp_path / "own.pth")[1].arch == "resnet8"
