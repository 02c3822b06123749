"""Decoding picture files, as an image viewer shows them."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from attnbench.stimuli.preprocessing import Picture
from attnbench.text import printable

# Part of every cache of pixels. Raise it when any picture is decoded to other pixels than before.
VERSION = 2
# Pillow has decoders of many more formats, some of which start other programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
# Pillow takes 4 bytes a pixel, the array and its contiguous copy 3 each: a gigabyte in all.
_MAX_PIXELS = 100_000_000
# The shorter side is resized to some hundred pixels, whatever length that gives the longer side.
_MAX_ASPECT_RATIO = 50
# What makes a picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE_IS_ZERO = 0  # a value of TIFF's tag "photometric interpretation"


class UnreadablePicture(Exception):
    """The bytes are not a picture that can be used. The message is the reason."""


def decode(encoded: bytes) -> Picture:
    """Decode a picture to uint8 RGB `[3, h, w]`, with its EXIF orientation applied.

    Grey, palette and CMYK pictures are converted. 16-bit grey levels are scaled to 8 bits.
    Transparent pictures are shown on white. Of several frames or pages the first is taken.

    Args:
        encoded: the bytes of the file.

    Raises:
        UnreadablePicture: if the picture is damaged, too large or too narrow, or of a format that is
            not read.
    """
    if not encoded:
        raise UnreadablePicture("the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, which are refused below, and of flaws in metadata.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(encoded), formats=_FORMATS) as picture:
                _check_size(*picture.size)
                picture.load()
                rgb = _to_rgb(_upright(_to_8_bits(picture)))
                return np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1)
    except UnreadablePicture:
        raise
    except UnidentifiedImageError:
        raise UnreadablePicture("it is not a JPEG, PNG, WebP, TIFF or BMP picture") from None
    except Image.DecompressionBombError:
        raise UnreadablePicture(_too_large("too many")) from None
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        raise UnreadablePicture(f"it is damaged: {printable(error, 200)}") from None


def _check_size(width: int, height: int) -> None:
    """Refuse what would take too much memory to decode, or to resize by its shorter side."""
    if width * height > _MAX_PIXELS:
        raise UnreadablePicture(_too_large(f"{width} x {height}"))
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        raise UnreadablePicture(
            f"it has {width} x {height} pixels, and the longer side may be at most "
            f"{_MAX_ASPECT_RATIO} times the shorter; crop it"
        )


def _too_large(pixels: str) -> str:
    return f"it has {pixels} pixels, and the limit is {_MAX_PIXELS // 10**6} million; scale it down"


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Scale grey levels of more than 8 bits to 8. Pillow would cut them off at 255.

    Raises:
        UnreadablePicture: if the picture's numbers have no agreed white.
    """
    bits = 16
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        bits = picture.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (bits,))[0]
    is_grey16 = picture.mode.startswith("I;16")
    # Pillow before 11 opens 16-bit grey PNGs in its 32-bit mode.
    is_grey16 |= picture.mode == "I" and picture.format in ("PNG", "PPM")
    if is_grey16:
        highest = 2**bits - 1
        levels = np.minimum(np.asarray(picture).astype(np.uint32), highest)
        grey = ((levels * 255 + highest // 2) // highest).astype(np.uint8)
        if isinstance(picture, TiffImagePlugin.TiffImageFile):
            photometric = picture.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
            grey = 255 - grey if photometric == _WHITE_IS_ZERO else grey
        scaled = Image.fromarray(grey)
        scaled.info = {key: picture.info[key] for key in ("exif",) if key in picture.info}
        return scaled
    if picture.mode in ("I", "F"):
        raise UnreadablePicture(
            "its pixels are 32-bit or floating-point numbers, which have no agreed white; save it "
            "with 8 or 16 bits"
        )
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    """Apply the orientation that the camera noted in the EXIF data.

    Pillow's `exif_transpose` also writes the EXIF data anew, and fails if they are damaged.
    """
    try:
        turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata need not matter to the pixels
        return picture
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture to RGB, on white where it is transparent."""
    has_alpha = picture.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if has_alpha or "transparency" in picture.info:
        with_alpha = picture.convert("RGBA")
        if np.asarray(with_alpha.getchannel("A")).min() < 255:
            white = Image.new("RGBA", picture.size, "white")
            return Image.alpha_composite(white, with_alpha).convert("RGB")
    return picture.convert("RGB")
