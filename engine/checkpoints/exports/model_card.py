"""Model cards in the form that the Hugging Face hub reads: YAML in front, then Markdown."""

import json
from pathlib import Path

from common.files import write_text
from engine.checkpoints.exports.description import Description


def write_card(path: Path, exported: Path, description: Description, figures: dict[str, float]) -> None:
    """Write the card of an exported file.

    Args:
        figures: measured of the file, by name: `top1` in per cent, `difference` of logits to PyTorch.

    Raises:
        RunError: the card cannot be written.
    """
    write_text(path, card_text(exported, description, figures))


def card_text(exported: Path, description: Description, figures: dict[str, float]) -> str:
    """The text of a card; what is not known is left out."""
    origin = description.origin
    label = str(origin.get("label", ""))
    title = f"{description.arch}, {label or 'trained'} on {description.dataset}"
    front: dict[str, object] = {
        "tags": ["image-classification", "knowledge-distillation", description.arch],
        "pipeline_tag": "image-classification",
        "datasets": [description.dataset],
        "metrics": ["accuracy"],
    }
    if "top1" in figures:
        task = {"type": "image-classification"}
        metric = {"type": "accuracy", "value": round(figures["top1"] / 100, 6)}
        result = {
            "task": task,
            "dataset": {"name": description.dataset, "type": description.dataset},
            "metrics": [metric],
        }
        front["model-index"] = [{"name": title, "results": [result]}]
    # JSON is YAML.
    lines = ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()), "---", ""]
    lines += [f"# {title}", "", *_table(exported, description, figures)]
    for teacher in origin.get("teachers", []):
        accuracy = f", {teacher['top1']:.2f} % top-1" if isinstance(teacher.get("top1"), float) else ""
        lines += ["", f"Teacher: {teacher.get('model')}{accuracy} (SHA-256 `{teacher.get('sha256')}`)."]
    if command := origin.get("command"):
        lines += ["", "Trained by:", "", "```", " ".join(map(str, command)), "```"]
    if description.classes:
        lines += ["", f"Classes: {', '.join(description.classes)}."]
    return "\n".join(lines) + "\n"


def _table(exported: Path, description: Description, figures: dict[str, float]) -> list[str]:
    size, pixels = description.image_size, "0..255" if description.pixels == "uint8" else "0..1"
    rows = {
        "file": f"`{exported.name}`, {exported.stat().st_size:,} bytes",
        "input": f"`images`, B×3×{size}×{size} {description.pixels} in {pixels}, RGB; normalisation is inside",
        "output": f"`logits`, B×{description.num_classes}",
        "test accuracy, top-1": _percent(figures, "top1"),
        "eight bits": _percent(figures, "top1, eight bits"),
        "weights": f"SHA-256 `{description.source_sha256}`",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items() if text)]


def _percent(figures: dict[str, float], name: str) -> str:
    return f"{figures[name]:.2f} %" if name in figures else ""
