"""Networks to suggest by name: of each kind one that suits the size of the images."""

# Images up to so many pixels, and the network for them; patches that grow with the image keep the number of tokens.
SUGGESTED = {
    "mlp": ((16, "mixer_pico"), (64, "mixer_nano"), (1024, "mixer_s16")),
    "distilled": ((16, "deit_pico_distilled"), (64, "deit_nano_distilled"), (1024, "deit_tiny_distilled")),
}


def suggested(kind: str, size: int) -> str:
    """The name of a network of a kind, an MLP or a ViT with a distillation token, for images of size×size pixels."""
    names = SUGGESTED[kind]
    return next((name for most, name in names if size <= most), names[-1][1])
