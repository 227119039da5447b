"""Networks to suggest by name: of each kind one that suits the size of the images."""

# Images up to so many pixels, and the network for them; patches that grow with the image keep the number of tokens.
SUGGESTED = {
    "Mixer": ((16, "mixer_pico"), (64, "mixer_nano"), (1024, "mixer_s16")),
    "ResMLP": ((16, "resmlp_pico"), (64, "resmlp_nano"), (1024, "resmlp_s12")),
    "ViT": ((16, "vit_pico"), (64, "vit_nano"), (1024, "deit_tiny")),
    "distilled": ((16, "deit_pico_distilled"), (64, "deit_nano_distilled"), (1024, "deit_tiny_distilled")),
}


def suggested(kind: str, size: int | None) -> str:
    """The name of a network of a kind for images of size×size pixels; of a kind without suggestions a Mixer.

    Args:
        size: None for that of CIFAR.
    """
    size = size or 32
    names = SUGGESTED.get(kind, SUGGESTED["Mixer"])
    return next((name for most, name in names if size <= most), names[-1][1])
