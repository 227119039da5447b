"""Tells whether the classes of a test set have unequal numbers of images, so that balanced accuracy says more."""

from collections.abc import Iterable

# The largest class has so many times the images of the smallest. A random split of equal classes is not exact.
UNEVEN = 1.1


def are_uneven(images: Iterable[int]) -> bool:
    """Returns whether the largest class has over `UNEVEN` times the images of the smallest one that occurs.

    Args:
        images: number of images of each class; classes without any are not counted.
    """
    sizes = [number for number in images if number]
    return bool(sizes) and max(sizes) > UNEVEN * min(sizes)
