"""One photograph: its pixels in RGB of 8 bits, and what its first and last bytes say of it.

Files are opened by the listed formats alone. Pillow knows forty more, and one of them hands PostScript to Ghostscript,
whatever the name of the file is.
"""

import hashlib
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

# Pillow's name of each format, and the endings of its files.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
OPENED = (*FORMATS, "AVIF")  # web sites name AVIF .jpg
TAIL_BYTES = 512  # of the end of a file, where a file that was cut off shows
BITS_PER_SAMPLE, PIECES = 258, ((273, 279), (324, 325))  # tags of TIFF: offsets and lengths of strips and of tiles
ORIENTATION = 274  # tag of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Modes that Pillow converts to RGB without fail.
CONVERTIBLE = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
# What files that cannot be opened begin with, at a place.
SIGNATURES = (
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "Photoshop's format"),
    (0, b"version https://git-lfs", "a pointer of Git LFS"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\0\0\0\x0cjP", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL", "JPEG XL"),
    (0, b"<", "HTML or XML"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif", "HEIC"),
    (4, b"ftyp", "a video"),
    (0, b"\xff\xd8", "a JPEG that is damaged, or of a rare kind"),
    (0, b"\x89PNG", "a damaged PNG"),
)


class UnreadableImage(Exception):
    """A file that gives no image. The message says why.

    Attributes:
        missing: it does not exist.
    """

    def __init__(self, reason: str, missing: bool = False):
        super().__init__(reason, missing)
        self.reason, self.missing = reason, missing


@dataclass(frozen=True)
class Inspection:
    """What is known of a file without decoding it.

    Attributes:
        problem: why it gives no image; "" if nothing speaks against it.
        mark: how its pixels are read other than as they lie there; "" for most.
        deep: it is grey with 16 bits a pixel.
        key: equal for equal files, and rarely for others.
    """

    problem: str = ""
    mark: str = ""
    deep: bool = False
    key: int = 0


def read_rgb(path: Path) -> Image.Image:
    """One image in RGB of 8 bits, upright by its EXIF orientation; of 16 or 12 bits a pixel it has the upper 8.

    Of an animation it is the first frame. Transparency and colour profiles are ignored.

    Raises:
        UnreadableImage: it cannot be read, or the range of its values is unknown.
    """
    try:
        with Image.open(path, formats=OPENED) as image:
            turn = TURNS.get(_orientation(image))
            rgb = _rgb(image)
    except Exception as error:  # damaged files raise whatever a decoder stumbles on
        raise _unreadable(path, error) from error
    return rgb if turn is None else rgb.transpose(turn)


def inspect(path: Path) -> Inspection:
    """Check a file by its header and its end; a file that looks cut off or unusual is decoded."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            size = os.fstat(file.fileno()).st_size
            head = file.read(16)
            file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
            with Image.open(file, formats=OPENED) as image:
                orientation, bits = _orientation(image), _bits(image)
                certain = (image.mode in CONVERTIBLE or bits > 0) and _looks_whole(image, size, head, tail)
        if not certain:
            read_rgb(path)
    except UnreadableImage as error:
        return Inspection(error.reason)
    except Exception as error:
        return Inspection(_unreadable(path, error).reason)
    marks = [f"orientation {orientation}"] * (orientation in TURNS) + [f"{bits} bits"] * (bits == 12)
    key = hashlib.blake2b(tail, digest_size=8, key=size.to_bytes(8, "big")).digest()
    return Inspection("", ", ".join(marks), bits > 8, int.from_bytes(key, "big", signed=True))


def highest_value(path: Path) -> int:
    """The highest pixel value of a grey image with 16 bits a pixel; 0 if it cannot be read."""
    try:
        with Image.open(path, formats=OPENED) as image:
            return int(np.asarray(image).max())
    except Exception:
        return 0


def _rgb(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of these modes cuts off at 255, which leaves a white image.
    if bits := _bits(image):
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"Pillow's mode {image.mode} has no known range: convert it to 8 bits")
    return image.convert("RGB")


def _bits(image: Image.Image) -> int:
    """Bits of a grey pixel where Pillow keeps more than 8 and their number is known; 0 otherwise."""
    if image.mode.startswith("I;16"):
        return 12 if isinstance(image, TiffImageFile) and image.tag_v2.get(BITS_PER_SAMPLE) == (12,) else 16
    return 16 if (image.format, image.mode) == ("PPM", "I") else 0


def _orientation(image: Image.Image) -> int:
    """The orientation that EXIF or XMP tell before the pixels; 1, upright, if there is none or it makes no sense."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself
    try:
        # Not PNG's own way, which would decode the image first.
        orientation = Image.Image.getexif(image).get(ORIENTATION, 1)
    except Exception:  # EXIF is often damaged where the image is not
        return 1
    return orientation if isinstance(orientation, int) else 1


def _looks_whole(image: Image.Image, size: int, head: bytes, tail: bytes) -> bool:
    """True if a file has the end that its format gives it; False also where that is unknown.

    Args:
        size: of the file, in bytes.
        head, tail: its first and last bytes.
    """
    end = tail.rstrip(b"\0\t\n\r ")
    if image.format in ("JPEG", "MPO"):
        return end.endswith(b"\xff\xd9")
    if image.format == "PNG":
        return b"IEND\xaeB`\x82" in tail
    if image.format == "GIF":
        return end.endswith(b";")
    if image.format == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    if isinstance(image, TiffImageFile):
        places = [zip(image.tag_v2.get(at, ()), image.tag_v2.get(count, ()), strict=True) for at, count in PIECES]
        ends = [at + count for pairs in places for at, count in pairs]
        return bool(ends) and max(ends) <= size
    decoder, _, start, _ = image.tile[0] if isinstance(image, ImageFile) and image.tile else ("", None, 0, None)
    return decoder == "raw" and start + image.width * image.height * len(image.getbands()) <= size


def _unreadable(path: Path, error: Exception) -> UnreadableImage:
    if isinstance(error, UnreadableImage):
        return error
    if isinstance(error, UnidentifiedImageError):
        return UnreadableImage(_kind(path))
    if isinstance(error, OSError) and error.strerror:
        return UnreadableImage(error.strerror, isinstance(error, FileNotFoundError))
    if isinstance(error, Image.DecompressionBombError):
        return UnreadableImage(f"it declares {str(error).split('(')[-1].split(')')[0]}, more than are decoded")
    return UnreadableImage(str(error).partition("\n")[0][:100] or type(error).__name__)


def _kind(path: Path) -> str:
    """What a file holds that is no image of the listed formats."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(64)
        if not head:
            return "it is empty"
        for place, signature, name in SIGNATURES:
            if head.startswith(signature, place):
                return f"it holds {name}"
        if not head.strip(b"\0"):
            return "it holds zeros"
    return "it is no image of these formats: " + ", ".join(FORMATS)
