from dataset import DATASETS
from engine.checkpoints.exports.agreement import largest_rounding
from engine.checkpoints.exports.deployed import DeployedNetwork
from engine.checkpoints.exports.measurement import NOTICEABLE, compared, explain
from engine.checkpoints.inference_network import InferenceNetwork
from tests.helpers import save_network


def deployed(folder):
    return DeployedNetwork(InferenceNetwork(save_network(folder / "net.pth")), DATASETS["digits"])


def test_rounding_is_seen_against_float64_and_leaves_the_network_as_it_is(tmp_path):
    network = deployed(tmp_path)
    assert 0 < largest_rounding(network, compared(network, None)) < 1e-4
    assert {parameter.dtype.itemsize for parameter in network.parameters()} == {4}


def test_a_difference_is_explained_where_it_is_noticeable(tmp_path, capsys):
    network = deployed(tmp_path)
    explain(NOTICEABLE, network, None)
    assert capsys.readouterr().out == ""
    explain(2 * NOTICEABLE, network, None)
    assert "float64" in capsys.readouterr().out
