"""Names of the networks that are compared, and which weights of a file they are."""

import pytest
import torch

from analysis.named_networks import load_named_network, load_students, safe_name, unique_names
from common.errors import RequestError
from engine.checkpoints.find_weights import WeightsChoice
from tests.helpers import DIGITS, save_network


def test_names_are_unique_and_fit_for_files():
    assert unique_names(["kd", "kd", "KD", "kd-2", "std"]) == ["kd", "kd-2", "KD-3", "kd-2-2", "std"]
    assert safe_name("crd*0.5+hint kd_T=4.0") == "crd_0.5+hint_kd_T_4.0"
    assert safe_name("../x/y") == "_x_y"
    assert safe_name("..") == "_"


def test_students_are_named_by_their_runs_or_files(tmp_path):
    for folder, label in (("a", "crd+kd"), ("b", "crd+kd"), ("c", None), ("d", "teacher")):
        (tmp_path / folder).mkdir()
        save_network(tmp_path / folder / "resnet8_best.pth")
        if label:
            (tmp_path / folder / "config.json").write_text(f'{{"label": "{label}"}}')
    found = load_students([tmp_path / folder / "resnet8_best.pth" for folder in "abcd"], DIGITS, ["resnet8"])
    assert [named.name for named in found] == ["crd+kd", "crd+kd-2", "resnet8_best", "teacher-2"]


@pytest.mark.parametrize("choice", [WeightsChoice(averaged=True), WeightsChoice(key="model_ema")])
def test_averaged_weights_of_a_file_from_elsewhere(tmp_path, choice, capsys):
    own, averaged = save_network(tmp_path / "own.pth"), save_network(tmp_path / "averaged.pth", seed=1)
    elsewhere = tmp_path / "elsewhere.pth"
    torch.save({"model": own.state_dict(), "model_ema": averaged.state_dict()}, elsewhere)
    images = torch.randn(2, 3, 8, 8)
    found = load_named_network(elsewhere, DIGITS, "teacher", "resnet8", False, choice)
    assert torch.equal(found.network(images), averaged(images))
    capsys.readouterr()
    one = load_named_network(tmp_path / "own.pth", DIGITS, "kd", None, False, choice)
    assert torch.equal(one.network(images), own(images))
    assert "--ema" in capsys.readouterr().out  # it does not apply to a file of this suite
    with pytest.raises(RequestError, match="nowhere"):
        load_named_network(elsewhere, DIGITS, "teacher", "resnet8", False, WeightsChoice(key="nowhere"))
