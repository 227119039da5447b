"""What a probe records of the frozen network below its classifier: its file, how it was trained and by what code."""

from pathlib import Path

from common.json_files import object_or_none
from engine.checkpoints.start_weights import StartWeights
from engine.protocol.plan import BackboneFile, Code
from engine.records.run_folder import RunFolder


def backbone_file(backbone: StartWeights) -> BackboneFile:
    """Describe loaded weights, with what the run that they lie in says of their training."""
    path = backbone.path
    trained, code, training = trained_by(path), code_behind(path), training_of(path)
    return BackboneFile(backbone.arch, path, backbone.sha256, trained, code, training, backbone.weights_key)


def trained_by(weights: Path) -> str:
    """The training behind a weights file, as tables call it: the label of its run, else the name of the file.

    For a probe it is the training of its own backbone: a classifier has not trained the network.
    """
    try:
        config = object_or_none(weights.parent / "config.json") or {}
        label = config["backbone"]["trained_by"] if config.get("backbone") else config["label"]
    except (KeyError, TypeError, AttributeError):
        return weights.name
    return label if isinstance(label, str) else weights.name


def code_behind(weights: Path) -> Code:
    """The code that trained the network of a weights file, its names prefixed by "backbone: "; empty if unknown.

    For a probe it is the code behind its own backbone.
    """
    run = RunFolder(weights.parent, "")
    if isinstance(backbone := run.recorded("backbone"), dict):
        return backbone.get("code") or {}
    return {f"backbone: {file}": digest for file, digest in (run.code() or {}).items()}


def training_of(weights: Path) -> dict[str, str]:
    """The data set, protocol and teachers of the training behind a weights file; empty if unknown.

    For a probe they are those of its own backbone.
    """
    run = RunFolder(weights.parent, "")
    if isinstance(backbone := run.recorded("backbone"), dict):
        return backbone.get("training") or {}
    found = {name: run.recorded(name) for name in ("dataset", "protocol", "protocol_id")}
    teachers = run.recorded("teachers")
    if isinstance(teachers, list):
        found["teachers"] = "+".join(str(teacher.get("model")) for teacher in teachers if isinstance(teacher, dict))
    return {name: value for name, value in found.items() if isinstance(value, str)}
