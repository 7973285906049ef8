"""Code of a worker process: load one image at a time in full and answer in lines of JSON.

A file that crashes, hangs or exhausts memory ends this process and nothing else. Only Pillow is imported at the start,
and modules that few files need with those files, so that a worker starts in less than a tenth of a second.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder: its modules must not hide others of the same name

import base64
import hashlib
import io
import json
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

FORMATS = {"JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF"}  # that MindSpore decodes; MPO is a JPEG with more data after it
ORIENTATION = 274  # EXIF tag; 1 is upright
THUMBNAIL = 32  # pixels, side of the grey thumbnail used to find duplicates
READY = "ready"  # the worker's first line, once everything is imported
REFUSED = "MindSpore's decoder would refuse it"


class UnusableImage(Exception):
    """An image that training cannot use: (code, problem)."""


def look(path: Path) -> dict[str, Any]:
    """Load one image and return the values that the rules need. Raises UnusableImage."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableImage("permission", f"it cannot be read: {error.strerror}") from None
    if not content:
        raise UnusableImage("zero-byte", "the file is empty")
    image, orientation = load_image(content)
    answer = {"code": "", "problem": "", "sha256": hashlib.sha256(content).hexdigest(), "orientation": orientation}
    with image:
        try:
            stricter_than_pillow(image, content)
        except UnusableImage as unusable:
            answer |= {"code": unusable.args[0], "problem": unusable.args[1]}
        return answer | image_facts(image)


def load_image(content: bytes) -> tuple[Image.Image, int]:
    """The image, loaded in full, and its EXIF orientation (1 is upright). Raises UnusableImage."""
    if content[:2] in (b"II", b"MM"):
        from PIL import TiffImagePlugin

        TiffImagePlugin.READ_LIBTIFF = True  # as in MindSpore; Pillow's own reader is less strict
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
            turned = orientation(image)  # before loading, which turns a TIFF
            image.load()
        return image, max(turned, orientation(image))  # and after, since a PNG may store it at its end
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusableImage("bomb", "more pixels than Pillow considers safe") from None
    except UnidentifiedImageError:
        raise UnusableImage("unreadable", "not an image format that Pillow knows") from None
    except MemoryError:
        raise UnusableImage("crash", "loading it takes more memory than a worker has") from None
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        code = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise UnusableImage(code, f"Pillow: {error}"[:200]) from None


def image_facts(image: Image.Image) -> dict[str, Any]:
    """The values that the rules need of a loaded image."""
    grey = plain(image.resize((3 * THUMBNAIL, 3 * THUMBNAIL), Image.Resampling.NEAREST)).convert("L")
    darkest, lightest = extrema(grey)[0]
    thumbnail = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return {
        "format": image.format,
        "mode": image.mode,
        "width": image.width,
        "height": image.height,
        "blank": lightest - darkest <= 2 and value_range(image) <= 2,  # the second reads every pixel
        "thumbnail": base64.b64encode(thumbnail.tobytes()).decode(),
        "frames": frames(image),  # last, since counting may move to another frame
    }


def plain(image: Image.Image) -> Image.Image:
    """Convert wide pixels to their upper byte, as MindSpore does, and modes that Pillow cannot convert to RGB."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    return image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode]) if image.mode in ("RGBa", "La") else image


def extrema(image: Any) -> list[tuple[float, float]]:
    """(lowest, highest) value of each band."""
    values = image.getextrema()
    return [values] if len(image.getbands()) == 1 else list(values)


def value_range(image: Image.Image) -> float:
    """Largest difference between two pixels, 0 to 255."""
    return max(high - low for low, high in extrema(plain(image).convert("RGB")))


def frames(image: Image.Image) -> int:
    if image.format == "MPO":  # a camera's preview, not an animation
        return 1
    with suppress(Exception):  # damaged later frames raise many kinds; the first one was loaded
        return int(getattr(image, "n_frames", 1))
    return 1


def orientation(image: Image.Image) -> int:
    if {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & image.info.keys() or image.format == "TIFF":
        with suppress(Exception):  # EXIF may be damaged in many ways; MindSpore ignores it
            value = int(image.getexif().get(ORIENTATION, 1))
            return value if 1 <= value <= 8 else 1
    return 1


# --- images that MindSpore's decoder refuses and Pillow loads --------------------------------------------------------


def stricter_than_pillow(image: Image.Image, content: bytes) -> None:
    """Raise UnusableImage if Pillow loads the image and MindSpore does not."""
    if image.format == "PNG":
        check_png(content)
    elif image.format == "TIFF":
        check_tiff(image)
    elif image.format == "BMP":
        check_bmp(content)


def check_png(content: bytes) -> None:
    """Require every chunk up to IEND to be complete with the right checksum, as libpng does and Pillow does not."""
    start = 8
    while start + 12 <= len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        if end > len(content):
            break
        if zlib.crc32(content[start + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise UnusableImage("decoder", f"a chunk is damaged (wrong checksum at byte {end - 4}); {REFUSED}")
        if content[start + 4 : start + 8] == b"IEND":
            return
        start = end
    raise UnusableImage("truncated", f"it ends before its last chunk (IEND); {REFUSED}")


def check_tiff(image: Any) -> None:
    """Require the tags that MindSpore's decoder needs, and a depth that it supports."""
    tags = image.tag_v2
    depth = max(tags.get(258, (1,)))
    if 262 not in tags or not ({273, 324} & tags.keys()):
        raise UnusableImage("decoder", f"a TIFF without tags for its colours or strips; {REFUSED}")
    if depth not in (1, 2, 4, 8, 16, 32, 64) or (depth == 32 and image.mode != "F"):
        raise UnusableImage("decoder", f"a TIFF with {depth} bits per sample; {REFUSED}")
    rows = tags.get(278, 0)
    if rows != 2**32 - 1 and image.width * rows * 4 * max(1, depth // 8) > 2**30:
        raise UnusableImage("decoder", f"a TIFF that claims {rows} rows per strip; {REFUSED}")


def check_bmp(content: bytes) -> None:
    """Require 8-bit run lengths to stay inside their row: Pillow cuts longer runs, MindSpore refuses the file."""
    header = int.from_bytes(content[14:18], "little")
    if header < 40 or int.from_bytes(content[30:34], "little") != 1:
        return
    width = int.from_bytes(content[18:22], "little")
    at, column = int.from_bytes(content[10:14], "little"), 0
    while at + 1 < len(content):
        count, value = content[at], content[at + 1]
        at += 2
        if count:
            column += count
        elif value == 0:
            column = 0
        elif value == 1:
            return
        elif value == 2:
            column += content[at] if at < len(content) else 0
            at += 2
        else:
            column += value
            at += value + value % 2
        if column > width:
            raise UnusableImage("decoder", f"a BMP with runs past the end of a row; {REFUSED}")


# --- the other requests ----------------------------------------------------------------------------------------------


def pixels(path: Path) -> dict[str, Any]:
    """Digest of the pixels after MindSpore's conversion: equal for equal pixels in any format."""
    with load_image(path.read_bytes())[0] as image:
        rgb = plain(image).convert("RGB")
        return {"pixels": hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()}


def preview(path: Path) -> dict[str, Any]:
    """A small JPEG for an HTML page, base64."""
    with load_image(path.read_bytes())[0] as image:
        small = on_white(image)
        small.thumbnail((112, 112))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        return {"jpeg": base64.b64encode(buffer.getvalue()).decode()}


def convert(path: Path) -> dict[str, Any]:
    """Write a copy beside the file that all decoders read alike: 8-bit RGB, upright, first frame, alpha on white.

    JPEG if the file was lossy, otherwise PNG; its name ends in .partial.
    """
    import secrets

    from PIL import ImageOps

    with load_image(path.read_bytes())[0] as image:
        lossy = image.format in ("JPEG", "MPO", "WEBP")
        upright = on_white(ImageOps.exif_transpose(image))
        copy = path.with_name(f".{secrets.token_hex(8)}.partial")
        with copy.open("xb") as file:  # x: a new file, never one that a link names
            if lossy:
                upright.save(file, "JPEG", quality=95, subsampling=0)
            else:
                upright.save(file, "PNG")
        return {"copy": str(copy), "suffix": ".jpg" if lossy else ".png"}


def on_white(image: Image.Image) -> Image.Image:
    """RGB for display: transparency on white, a wide range of values scaled to 0 to 255."""
    if image.mode.startswith(("I", "F")):
        wide = image.convert("F")
        low, high = extrema(wide)[0]
        scale = 255 / max(high - low, 1e-12)
        return wide.point(lambda value: value * scale - low * scale).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        transparent = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), transparent).convert("RGB")
    return plain(image).convert("RGB")


REQUESTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "look": look,
    "pixels": pixels,
    "preview": preview,
    "convert": convert,
}


def serve(memory: int) -> None:
    """Answer each line (request, paths) with a line of answers. `memory`: limit of the address space in bytes."""
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    print(READY, flush=True)
    for line in sys.stdin:
        request, paths = json.loads(line)
        print(json.dumps([answer(request, Path(path)) for path in paths]), flush=True)


def answer(request: str, path: Path) -> dict[str, Any]:
    try:
        return REQUESTS[request](path)
    except UnusableImage as unusable:
        return {"code": unusable.args[0], "problem": unusable.args[1]}
    except MemoryError:
        return {"code": "crash", "problem": "loading it takes more memory than a worker has"}
    except Exception as error:  # a failing file yields an answer
        return {"code": "unreadable", "problem": f"{type(error).__name__}: {error}"[:200]}


if __name__ == "__main__":
    serve(int(sys.argv[1]))
