"""The file behind `--init pretrained`: the weights that timm publishes, from the cache of the Hugging Face hub."""

from pathlib import Path
from typing import Any

from common.errors import RequestError
from models import MODELS

FILE = "model.safetensors"


def published_weights(name: str, flag: str) -> tuple[Path, str]:
    """Find or download the weights that timm publishes for a network.

    The hub's own cache and settings hold: HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT.

    Args:
        name: timm:NAME for timm's default weights, timm:NAME.TAG for others; @SIZE may follow.
        flag: that asked for them, for messages.

    Returns:
        The file, and the name with its tag.

    Raises:
        RequestError: it is no network of timm, there are no weights, or they cannot be downloaded.
    """
    prefix, _, rest = name.partition(":")
    plain, at, size = rest.partition("@")
    if prefix != "timm":
        raise RequestError(
            f"{flag} pretrained is for networks of timm, such as timm:resnet50, and the network is {name};\n"
            f"name a file of weights in place of pretrained"
        )
    MODELS.canonical(name)  # raises for unknown names and tags, and without timm
    config = _config(plain)
    if config is None or not config.hf_hub_id:
        raise RequestError(f"timm publishes no weights of {name}; name a file: {flag} FILE")
    tagged = f"{config.architecture}.{config.tag}" if config.tag else plain
    return _fetched(config.hf_hub_id, tagged, flag), f"timm:{tagged}{at}{size}"


def _config(name: str) -> Any:  # timm has no types
    from timm.models import get_pretrained_cfg

    return get_pretrained_cfg(name)


def _fetched(repository: str, name: str, flag: str) -> Path:
    from huggingface_hub import hf_hub_download, logging

    logging.set_verbosity_error()  # its tries at a network that is not there take a line each
    try:
        return Path(hf_hub_download(repository, FILE))
    except Exception as error:  # whatever the hub, its client and the network raise
        raise RequestError(
            f"{flag} pretrained: {repository} cannot be fetched ({type(error).__name__}; is there a network?);\n"
            f"fetch https://huggingface.co/{repository}/resolve/main/{FILE} elsewhere and give {flag} FILE with the "
            f"network timm:{name}"
        ) from None
