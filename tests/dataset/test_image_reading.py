"""Photographs of every kind: which are opened, how they are seen, and what is said of those that are not."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

from dataset.image_reading import FORMATS, ORIENTATION, UnreadableImage, inspect, read_rgb

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8))
GREY_16 = Image.fromarray((np.arange(24 * 36, dtype=np.uint16) * 70).reshape(24, 36))


def encoded(image, format_name, **options):
    content = io.BytesIO()
    image.save(content, format_name, **options)
    return content.getvalue()


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def grey_tiff(width, height, bits, pixels):
    """An uncompressed TIFF of one strip with any number of bits a pixel, which Pillow does not write."""
    values = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 277: 1, 278: height, 279: len(pixels)}
    start = 8 + 2 + 12 * (len(values) + 1) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted({**values, 273: start}.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(values) + 1) + entries + b"\0\0\0\0" + pixels


JPEG, PNG = encoded(NOISE, "JPEG"), encoded(NOISE, "PNG")
TURNED = Image.Exif()
TURNED[ORIENTATION] = 6
HEADER = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
# What gives no image, and a word that says why.
UNREADABLE = {
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "PostScript"),
    "pdf": (b"%PDF-1.4\n", "PDF"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "HEIC"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    "web page": (b"<!DOCTYPE html><p>404", "HTML"),
    "empty": (b"", "empty"),
    "zeros": (bytes(5000), "zeros"),
    "text": (b"no picture", "JPEG"),
    "photoshop": (b"8BPS\0\1" + bytes(60), "Photoshop"),
    **{name: (encoded(NOISE, name), "") for name in ("TGA", "PCX", "SGI", "IM", "DDS", "ICO", "JPEG2000", "QOI")},
    "fits": (b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800), ""),
    "cut in the header": (JPEG[:100], ""),
    "cut jpeg": (JPEG[:-300], "truncated"),
    "cut by one byte": (JPEG[:-1], "truncated"),
    "cut png": (PNG[:-300], "truncated"),
    "cut webp": (encoded(NOISE, "WEBP")[:-50], ""),
    "cut tiff": (encoded(NOISE, "TIFF")[:-500], "truncated"),
    "cut bmp": (encoded(NOISE, "BMP")[:-50], "truncated"),
    "cut ppm": (encoded(NOISE, "PPM")[:-50], "truncated"),
    "damaged checksum": (PNG[:20] + b"\xff" + PNG[21:], "PNG"),
    "bomb": (PNG[:8] + HEADER + PNG[33:], "2500000000 pixels"),
    "bomb of a pgm": (b"P5 100000 100000 255\n", "10000000000 pixels"),
    "unknown range": (encoded(GREY_16.convert("F"), "TIFF"), "mode F"),
}
# What is one, whatever its name.
READABLE = {
    **{name: (encoded(NOISE, name), "") for name in (*FORMATS, "AVIF", "MPO")},
    "progressive": (encoded(NOISE, "JPEG", progressive=True), ""),
    "with the bytes of a phone behind": (JPEG + b"SEFH" * 99, ""),
    "with zeros behind": (JPEG + bytes(4096), ""),
    "without its last chunk": (PNG[:-12], ""),
    "cut amid its second frame": (encoded(NOISE, "GIF", save_all=True, append_images=[NOISE.rotate(9)])[:-99], ""),
    "damaged EXIF": (encoded(NOISE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40), ""),
    "turned jpeg": (encoded(NOISE, "JPEG", exif=TURNED), "orientation 6"),
    "turned png": (encoded(NOISE, "PNG", exif=TURNED), "orientation 6"),
    "turned webp": (encoded(NOISE, "WEBP", exif=TURNED), "orientation 6"),
    "turned tiff": (encoded(NOISE, "TIFF", exif=TURNED), ""),  # which Pillow always turned
    "turned by xmp": (encoded(NOISE, "JPEG", xmp=b'<x tiff:Orientation="6"/>'), "orientation 6"),
    "16 bits": (encoded(GREY_16, "PNG"), ""),
    "12 bits": (grey_tiff(4, 2, 12, bytes([0xFF, 0xF0, 0x80, 0x40, 0x00, 0xFF] * 2)), "12 bits"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_gives_no_image_is_named_and_seen_before_training(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("PostScript was run"))
    content, word = UNREADABLE[kind]
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage) as refusal:
        read_rgb(path)
    assert refusal.value.reason
    assert word in refusal.value.reason
    assert inspect(path).problem == refusal.value.reason
    assert not refusal.value.missing


@pytest.mark.parametrize("kind", READABLE)
def test_what_is_an_image_is_read_as_pillow_does(tmp_path, kind):
    content, mark = READABLE[kind]
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert (inspect(path).problem, inspect(path).mark) == ("", mark)
    if "bits" not in kind:
        assert read_rgb(path).tobytes() == ImageOps.exif_transpose(Image.open(path)).convert("RGB").tobytes()
    if not mark:
        assert "bits" in kind or read_rgb(path).tobytes() == Image.open(path).convert("RGB").tobytes()


@pytest.mark.parametrize("orientation", range(10))
def test_orientations(tmp_path, orientation):
    TURNED_SO = Image.Exif()
    TURNED_SO[ORIENTATION] = orientation
    path = tmp_path / "x.png"
    NOISE.save(path, exif=TURNED_SO)
    assert read_rgb(path).tobytes() == ImageOps.exif_transpose(Image.open(path)).tobytes()
    assert bool(inspect(path).mark) == (1 < orientation < 9)


def test_of_12_bits_the_upper_8_are_seen(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(READABLE["12 bits"][0])
    assert np.asarray(read_rgb(path))[0, :, 0].tolist() == [0xFF, 0x08, 0x40, 0x0F]


def test_a_damage_that_header_and_end_do_not_show(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(PNG[:1000] + b"damage" + PNG[1006:])
    assert inspect(path).problem == ""
    with pytest.raises(UnreadableImage):
        read_rgb(path)


def test_equal_files_have_equal_keys(tmp_path):
    for name, content in (("a", PNG), ("b", PNG), ("c", JPEG)):
        (tmp_path / name).write_bytes(content)
    first, same, other = (inspect(tmp_path / name).key for name in "abc")
    assert first == same != other


def test_a_missing_file(tmp_path):
    with pytest.raises(UnreadableImage) as refusal:
        read_rgb(tmp_path / "x.png")
    assert refusal.value.missing
    assert inspect(tmp_path / "x.png").problem == refusal.value.reason
