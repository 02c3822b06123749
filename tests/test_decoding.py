"""Decoding: pictures look as in an image viewer, and what cannot be used is refused with a reason."""

from __future__ import annotations

import contextlib
import io
import resource
import struct
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from attnbench.stimuli.decoding import UnreadablePicture, decode

RAMP = np.linspace(0, 65535, 64 * 4).astype(np.uint16).reshape(4, 64)
COLOURS = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)


def _encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _rows(encoded: bytes) -> NDArray[np.uint8]:
    """The decoded picture as `[h, w, 3]`."""
    return decode(encoded).transpose(1, 2, 0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP"])
def test_formats_without_loss_give_the_pixels(kind: str) -> None:
    encoded = _encoded(
        Image.fromarray(COLOURS), kind, **({"lossless": True} if kind == "WEBP" else {})
    )
    assert np.array_equal(_rows(encoded), COLOURS)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("JPEG", mode) for mode in ("RGB", "L", "CMYK", "1", "YCbCr")),
        *(("PNG", mode) for mode in ("RGB", "L", "1", "P")),
        *(("TIFF", mode) for mode in ("RGB", "L", "CMYK", "1", "P", "YCbCr")),
    ],
)
def test_ordinary_pictures_are_what_pillow_converts_them_to(kind: str, mode: str) -> None:
    encoded = _encoded(Image.fromarray(COLOURS).convert(mode), kind)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    assert np.array_equal(_rows(encoded), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_to_its_bit_depth(kind: str) -> None:
    pixels = _rows(_encoded(Image.fromarray(RAMP), kind))
    assert np.abs(pixels[..., 0] - RAMP / 257).max() <= 0.5
    assert len(np.unique(pixels)) == 256
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_12_bit_tiff_and_inverted_tiff() -> None:
    """Tag 258 gives the bit depth, and tag 262 whether 0 is black or white."""
    levels = (RAMP // 16).astype(np.uint16)
    encoded = _encoded(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0})
    assert np.abs(255 - _rows(encoded)[..., 0] - RAMP / 257).max() <= 1
    header = struct.pack("<2sHI", b"II", 42, 8)
    packed = bytearray()
    for first, second in levels.reshape(-1, 2).tolist():
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    tags = [(256, 64), (257, 4), (258, 12), (259, 1), (262, 1), (273, 122), (277, 1), (278, 4)]
    tags += [(279, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    encoded = header + struct.pack("<H", len(tags)) + entries + bytes(4) + bytes(packed)
    assert np.abs(_rows(encoded)[..., 0] - levels / 4095 * 255).max() <= 0.5


def test_numbers_without_a_white_are_refused() -> None:
    for numbers in (np.ones((4, 4), np.float32), np.ones((4, 4), np.int32)):
        with pytest.raises(UnreadablePicture, match="no agreed white"):
            decode(_encoded(Image.fromarray(numbers), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pictures_are_shown_on_white(mode: str) -> None:
    alpha = np.zeros((10, 14), np.uint8)
    alpha[:, 7:] = 255
    picture = Image.fromarray(np.dstack([np.full_like(COLOURS, 60), alpha]))
    options: dict[str, Any] = {}
    if mode == "P":
        indices = Image.fromarray((alpha // 255).astype(np.uint8), "P")
        indices.putpalette([0, 0, 0, 60, 60, 60])
        picture, options = indices, {"transparency": 0}
    elif mode == "RGB":
        pixels = np.full_like(COLOURS, 60)
        pixels[:, :7] = (1, 2, 3)
        picture, options = Image.fromarray(pixels), {"transparency": (1, 2, 3)}
    else:
        picture = picture.convert(mode)
    pixels = _rows(_encoded(picture, "PNG", **options))
    assert (pixels[:, :7] == 255).all() and (pixels[:, 7:] == 60).all()


def test_half_transparent_is_half_white_and_opaque_is_unchanged() -> None:
    half = np.dstack([np.full_like(COLOURS, 55), np.full((10, 14), 128, np.uint8)])
    assert np.abs(_rows(_encoded(Image.fromarray(half), "PNG")).astype(int) - 155).max() <= 1
    opaque = np.dstack([COLOURS, np.full((10, 14), 255, np.uint8)])
    assert np.array_equal(_rows(_encoded(Image.fromarray(opaque), "PNG")), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "compressed TIFF", "JPEG", "16-bit PNG"])
def test_the_exif_orientation_is_applied_once(kind: str) -> None:
    picture = Image.fromarray(RAMP if kind == "16-bit PNG" else COLOURS)
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if kind == "compressed TIFF":
        options["compression"] = "tiff_lzw"
    name = kind.split()[-1]
    plain = _rows(_encoded(picture, name, **options))
    turned = _rows(_encoded(picture, name, exif=exif.tobytes(), **options))
    assert np.array_equal(turned, np.rot90(plain, 3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_pillows(orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    encoded = _encoded(Image.fromarray(COLOURS), "PNG", exif=exif.tobytes())
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    assert np.array_equal(_rows(encoded), np.asarray(expected))


def test_damaged_exif_does_not_matter() -> None:
    exif = Image.Exif()
    exif[274], exif[271] = 6, "a camera"
    intact = exif.tobytes()
    rng = np.random.default_rng(0)
    for kind in ("PNG", "WEBP", "JPEG"):
        for _ in range(200):
            damaged = np.frombuffer(intact, np.uint8).copy()
            damaged[rng.integers(6, len(damaged), 3)] = rng.integers(0, 256, 3)
            encoded = _encoded(Image.fromarray(COLOURS), kind, exif=damaged.tobytes())
            assert sorted(decode(encoded).shape) == [3, 10, 14]


def _png_of(width: int, height: int) -> bytes:
    """A valid PNG of black pixels, made without the pixels in memory."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    deflate = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (20_000, 10_000, "100 million; scale it down"),
        (60_000, 60_000, "100 million; scale it down"),
        (20_000, 20, "20000 x 20 pixels.*at most 50 times the shorter; crop it"),
        (1, 3_000, "1 x 3000"),
        (9_000, 1, "9000 x 1"),
    ],
)
def test_huge_and_narrow_pictures_are_refused_with_little_memory(
    width: int, height: int, reason: str
) -> None:
    encoded = _png_of(width, height)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadablePicture, match=reason):
        decode(encoded)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_the_largest_picture_takes_bounded_memory() -> None:
    code = (
        "import resource, sys\n"
        "from attnbench.stimuli.decoding import decode\n"
        "encoded = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert decode(encoded).shape == (3, 9_900, 10_000)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    encoded = _png_of(10_000, 9_900)
    done = subprocess.run([sys.executable, "-c", code], input=encoded, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) < 1_200_000  # KiB
    assert not done.stderr  # no warning of a decompression bomb


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "the file is empty"),
        (b"<html>404</html>", "not a JPEG, PNG, WebP, TIFF or BMP"),
        (_encoded(Image.fromarray(COLOURS), "JPEG")[:-100], "it is damaged: .*[Tt]runcated"),
        (_encoded(Image.fromarray(COLOURS), "PNG")[:-60], "it is damaged"),
        (_encoded(Image.fromarray(COLOURS), "TIFF")[:-60], "it is damaged"),
        (_encoded(Image.fromarray(COLOURS), "WEBP")[:-60], "it is damaged|not a JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a JPEG"),
    ],
)
def test_the_reason_why_a_picture_cannot_be_read_is_given(encoded: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePicture, match=reason) as error:
        decode(encoded)
    assert "BytesIO" not in str(error.value)


def test_a_damaged_byte_never_raises_anything_else() -> None:
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP"):
        intact = np.frombuffer(_encoded(Image.fromarray(COLOURS), kind), np.uint8)
        for _ in range(150):
            damaged = intact.copy()
            damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
            with contextlib.suppress(UnreadablePicture):
                assert decode(damaged.tobytes()).dtype == np.uint8
