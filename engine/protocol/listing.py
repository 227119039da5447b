"""What `--list` prints: methods, models, data sets, recipes and presets, a line each."""

from dataset import DATASETS
from distiller_zoo import METHODS
from engine.protocol.presets import preset_names, read_preset
from engine.protocol.recipes import RECIPES
from models import MODELS

WIDTH = 23  # of a column of names


def listing() -> str:
    """Everything that can be named on the command line, in sections, each line with one summary."""
    models = {name: entry.summary for name, entry in MODELS.items()}
    datasets = {name: entry.summary for name, entry in DATASETS.items()}
    datasets["folder:NAME[@SIZE]"] = "photographs in DATA_FOLDER/NAME/train/CLASS/ and val/CLASS/; 224 px"
    recipes = {name: recipe.summary for name, recipe in RECIPES.items()}
    presets = {name: read_preset(name).summary for name in preset_names()}
    methods = _methods()
    lines = _section("methods (--distill)", methods, max(map(len, methods)))
    lines += _section("models (--model_s, --model_t)", models)
    lines += _section("data sets (--dataset)", datasets)
    lines += _section("recipes (--recipe)", recipes)
    lines += _section("presets (--preset)", presets)
    return "\n".join(lines)


def _methods() -> dict[str, str]:
    """Names with aliases, and the published weights and paper of each method."""
    found = {}
    for name in sorted(METHODS):
        method, aliases = METHODS[name], ", ".join(METHODS.aliases_of(name))
        w = method.weights
        shown = f"{name} ({aliases})" if aliases else name
        found[shown] = f"-r {w.gamma:g} -a {w.alpha:g} -b {w.beta:g}  {method.paper}"
    return found


def _section(title: str, summaries: dict[str, str], width: int = WIDTH) -> list[str]:
    return [title, *(f"  {name:<{width}}  {summary}" for name, summary in summaries.items())]
