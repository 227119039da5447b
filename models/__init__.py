"""Networks, a file per family. Each takes B×3×H×W images and returns one `Features` record."""

from models.features import Features, FeatureShapes
from models.network import Network
from models.registry import DEFAULT_STUDENT, MODELS, ModelEntry, create_model, register_model

MODELS.add_package(__name__, __path__)

__all__ = [
    "DEFAULT_STUDENT",
    "MODELS",
    "FeatureShapes",
    "Features",
    "ModelEntry",
    "Network",
    "create_model",
    "register_model",
]
