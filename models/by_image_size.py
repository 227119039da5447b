"""Networks by the size of the images: the defaults, and what is beyond reason."""

from models.cost import multiply_accumulates
from models.network import Network
from models.published_checkpoints import DEFAULT_TEACHER
from models.registry import DEFAULT_STUDENT
from models.suggestions import SUGGESTED, suggested

# Up to this size the defaults are those of the published experiments on CIFAR. At 224 px they would cost fifteen times
# what networks for photographs do.
MOST_SMALL = 64
STUDENT_OF_PHOTOGRAPHS, TEACHER_OF_PHOTOGRAPHS = "MobileNetV2", "ResNet50_photo"
# Multiply-accumulates of one image of 224 px beyond which a network is not meant for such images: ViT-B has 17.6e9 and
# ResMLP-B24, the largest network for photographs here, 23e9.
MOST_COST, SIZE_OF_MOST_COST = 24_000_000_000, 224


def default_student(size: int) -> str:
    """The student that is trained on images of size×size pixels where none is named."""
    return DEFAULT_STUDENT if size <= MOST_SMALL else STUDENT_OF_PHOTOGRAPHS


def default_teacher(size: int) -> str:
    """The network that train_teacher.py trains on images of size×size pixels where none is named."""
    return DEFAULT_TEACHER if size <= MOST_SMALL else TEACHER_OF_PHOTOGRAPHS


def better_network(network: Network, family: str) -> tuple[int, str]:
    """How many multiply-accumulates an image takes in a network beyond reason for its size, and a better one's name.

    Only networks for more than `MOST_SMALL` pixels are counted; of larger images than 224 px more is allowed.

    Args:
        family: that of the network in `ModelEntry`.

    Returns:
        (0, "") for a network within reason.
    """
    size = network.image_size
    if size <= MOST_SMALL:
        return 0, ""
    cost = multiply_accumulates(network)
    if cost <= MOST_COST * max(1.0, (size / SIZE_OF_MOST_COST) ** 2):
        return 0, ""
    kind = next((kind for kind in SUGGESTED if kind.lower() == family), None)
    return cost, STUDENT_OF_PHOTOGRAPHS if kind is None else suggested(kind, size)
