"""The size of a network as it predicts, for the records of runs."""

from engine.checkpoints.inference_network import InferenceNetwork
from models.cost import count_used_parameters, multiply_accumulates
from models.network import count_parameters


def deployed_size(network: InferenceNetwork) -> dict[str, int | None]:
    """Return `parameters`, `head_parameters` and `macs` of a network; changes no state.

    `parameters` are the network's own, `head_parameters` those of the heads that a method gave it to predict with: what
    a method needs for training alone is in neither. `macs` are the multiply-accumulates of one image, heads included;
    None, as `head_parameters` may be, where the network does something that cannot be counted.
    """
    parameters, method = count_parameters(network.network), network.method
    try:
        macs = multiply_accumulates(network)
        heads = 0 if method is None else count_used_parameters(network, method)
    except Exception:  # of somebody's own network, at the end of its training: it must not cost them the result
        return {"parameters": parameters, "head_parameters": None, "macs": None}
    return {"parameters": parameters, "head_parameters": heads, "macs": macs}
