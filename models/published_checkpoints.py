"""Checkpoints of CIFAR-100 networks that others published: data only; engine/checkpoints/ fetches them."""

from dataclasses import dataclass

HUB = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download"
HUB_MEAN, HUB_STD = (0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)
MDISTILLER_TAR = "https://github.com/megvii-research/mdistiller/releases/download/checkpoints/cifar_teachers.tar"
REPDISTILLER = "shape2prog.csail.mit.edu/repo"


@dataclass(frozen=True)
class PublishedCheckpoint:
    """One published checkpoint of a CIFAR-100 network.

    Attributes:
        file: path below `<output>/models`.
        top1: published test accuracy in per cent.
        url: address of the file.
        fallback_url: another address of it, tried after the first.
        sha256_prefix: start of the file's SHA-256, where its publisher gives one.
        mean, std: the normalisation it was trained with, where it is not RepDistiller's.
        archive: address of a tar file that holds it too, as `member`; tried first.
    """

    model: str
    file: str
    top1: float
    url: str
    fallback_url: str | None = None
    sha256_prefix: str | None = None
    archive: str | None = None
    member: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None


def _from_hub(model: str, top1: float, digest: str) -> PublishedCheckpoint:
    file = f"cifar100_{model}-{digest}.pt"
    url = f"{HUB}/resnet/{file}"
    return PublishedCheckpoint(model, file, top1, url, sha256_prefix=digest, mean=HUB_MEAN, std=HUB_STD)


def _from_repdistiller(model: str, top1: float) -> PublishedCheckpoint:
    """No checksum of these is published: what vouches for them is that they load and how accurate they are."""
    file = f"{model}_vanilla/ckpt_epoch_240.pth"
    place = f"{REPDISTILLER}/{file}"
    return PublishedCheckpoint(
        model,
        file,
        top1,
        f"https://{place}",
        fallback_url=f"http://{place}",
        archive=MDISTILLER_TAR,
        member=f"cifar_teachers/{file}",
    )


# The first entry of a network is the one that a run takes by default.
PUBLISHED = (
    _from_hub("resnet56", 72.63, "f2eff4c8"),
    _from_hub("resnet44", 71.63, "ffe32858"),
    _from_hub("resnet32", 70.16, "84213ce6"),
    _from_hub("resnet20", 68.83, "23dac2f1"),
    _from_repdistiller("wrn_40_2", 75.61),
    _from_repdistiller("resnet56", 72.34),
    _from_repdistiller("resnet110", 74.31),
    _from_repdistiller("resnet32x4", 79.42),
    _from_repdistiller("vgg13", 74.64),
    _from_repdistiller("ResNet50", 79.34),
)
DATASET = "cifar100"
DEFAULT_TEACHER = "resnet56"


def find_published(sha256: str) -> PublishedCheckpoint | None:
    """The published checkpoint with this SHA-256, if its publisher gives the start of it; None if it is unknown."""
    matching = (t for t in PUBLISHED if t.sha256_prefix and sha256.startswith(t.sha256_prefix))
    return next(matching, None)
