"""Code of a worker process: load one image at a time in full and answer in lines of JSON.

A file that crashes, hangs or exhausts memory ends this process and nothing else. Only Pillow is imported at the start,
and modules that few files need with those files, so that a worker starts in less than a tenth of a second.

open_image is the only place in mslab that lets Pillow identify a file.
"""

import os
import sys
from types import ModuleType

if __name__ == "__main__":
    del sys.path[0]  # this folder: its modules must not hide others of the same name
    # as empty packages, since those of mslab import much that a worker does not need
    for package, folder in (("mslab", 2), ("mslab.check", 1)):
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [__file__.rsplit(os.sep, folder)[0]]

import base64
import hashlib
import importlib
import io
import json
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

from mslab.check.decoder import RUN, UNSUPPORTED, UnusableImage, check_raw, check_scans, jpeg_end, stricter_than_pillow
from mslab.check.formats import DECODED, HEIF, LOSSY, RAW, READ, is_format, name_of

LONGEST = 256  # times as long as wide: at image_size 1024 its resized copy takes 0.8 GB. No side that this and Pillow's
# MOST allow is too long for MindSpore, whose limit is 1,000,000 for a PNG and 2**20 for others
FRAMES = 100  # or pages of a TIFF that are counted
ORIENTATION = 274  # EXIF tag; 1 is upright
THUMBNAIL = 32  # pixels, side of the grey thumbnail used to find duplicates
LARGE = 89_478_485  # pixels, Pillow's limit; above it an image is as large as its file says
MOST = 1 << 28  # pixels; a worker's memory holds them once
HONEST = 300  # times; the pixels of an honest photo take at most so much more than its file
COPY = 4096  # pixels, longest side of the converted copy of a larger image
OPENING = threading.Lock()
READY = "ready"  # the worker's first line, once everything is imported


def look(path: Path) -> dict[str, Any]:
    """Load one image and return the values that the rules need. Raises UnusableImage."""
    content = read(path)
    image, orientation = load_image(content)
    answer = {"code": "", "problem": "", "sha256": hashlib.sha256(content).hexdigest(), "orientation": orientation}
    with image:
        try:
            stricter_than_pillow(image, content)
            answer["junk"] = junk_before_end(image, content)
        except UnusableImage as unusable:
            answer |= {"code": unusable.args[0], "problem": unusable.args[1]}
        return answer | image_facts(image)


def read(path: Path) -> bytes:
    """The file's content. Raises UnusableImage."""
    try:
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise UnusableImage("unreadable", "not a regular file but a pipe or a device")
        content = path.read_bytes()
    except OSError as error:
        raise UnusableImage("permission", f"it cannot be read: {error.strerror}") from None
    if not content:
        raise UnusableImage("zero-byte", "the file is empty")
    return content


def open_image(file: str | Path | IO[bytes]) -> Image.Image:
    """The image, identified but not loaded. Never without `formats`: for EPS, Pillow starts Ghostscript."""
    with OPENING:  # Pillow's limit of pixels is a global variable; MOST is the limit here
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = identified(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if image.width * image.height > MOST:
        image.close()
        raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
    return image


def identified(file: str | Path | IO[bytes]) -> Image.Image:
    formats = [*READ, HEIF] if HEIF in Image.OPEN else READ
    try:
        return Image.open(file, formats=formats)
    except KeyError:  # a Pillow without AVIF, or built without WebP, which has registered all others by now
        return Image.open(file, formats=[name for name in formats if name in Image.OPEN])


def load_image(content: bytes, most: int = MOST) -> tuple[Image.Image, int]:
    """The image, loaded in full, and its EXIF orientation (1 is upright). Raises UnusableImage.

    `most`: pixels that an image may have if its file is as large as that of an honest photo.
    """
    name = name_of(content)
    if name == RAW:
        raise UnusableImage("format", f"{RAW}: {UNSUPPORTED}")
    if content[:2] in (b"II", b"MM"):
        from PIL import TiffImagePlugin

        TiffImagePlugin.READ_LIBTIFF = True  # as in MindSpore; Pillow's own reader is less strict
    if content[:2] == b"\xff\xd8":
        check_scans(content)
    if name == "HEIC":
        with suppress(ImportError):  # the extra mslab[heic] brings it
            importlib.import_module("pillow_heif").register_heif_opener()
    try:
        image = open_image(io.BytesIO(content))
        check_shape(image, len(content), most)
        if image.format == "TIFF":
            check_raw(image)
        turned = orientation(image)  # before loading, which turns a TIFF
        image.load()
        return image, max(turned, orientation(image))  # and after, since a PNG may store it at its end
    except Image.DecompressionBombError as error:
        raise UnusableImage("bomb", f"{error}, more than {MOST:,}") from None
    except UnusableImage:
        raise
    except UnidentifiedImageError:
        if name and {"HEIC": HEIF}.get(name, name) not in {HEIF, *READ} & Image.OPEN.keys():
            problem = f"{name}: {UNSUPPORTED}" if is_format(name) else f"no image but {name}"
            raise UnusableImage("format", problem) from None
        kind = f"a {name} of a kind that Pillow does not open" if name else "not an image in a format that mslab opens"
        raise UnusableImage("unreadable", f"{kind}, or damaged") from None
    except MemoryError:
        raise UnusableImage("crash", "loading it takes more memory than a worker has") from None
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        code = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise UnusableImage(code, f"Pillow: {error}"[:200]) from None


def junk_before_end(image: Image.Image, content: bytes) -> int:
    """Number of bytes before a JPEG's end marker that are no picture. Raises UnusableImage if its picture ends early.

    Decoders say neither: they skip such bytes, and paint what is missing in the middle grey.
    """
    if image.format not in ("JPEG", "MPO"):
        return 0
    right, bottom = image.size
    corner = image.crop((max(0, right - 8), max(0, bottom - 8), right, bottom))
    grey = all(low == high == 128 for low, high in extrema(corner))
    if not (grey or bytes(RUN) in content or b"\xff" * RUN in content):
        return 0
    end = jpeg_end(content)
    junk = end - min(len(content[:end].rstrip(byte)) for byte in (b"\0", b"\xff"))
    if (junk < RUN and not grey) or image.width * image.height > LARGE:
        return 0
    # with other bytes in their place, the picture is another one if they are read
    with load_image(content[: end - junk] + b"\x55" * max(junk, 64) + content[end:])[0] as other:
        same = other.tobytes() == image.tobytes()
    if grey and not same:
        raise UnusableImage("truncated", "its picture ends early: decoders paint the rest grey")
    return junk if same and junk >= RUN else 0


def image_facts(image: Image.Image) -> dict[str, Any]:
    """The values that the rules need of a loaded image."""
    grey = plain(image.resize((4 * THUMBNAIL, 4 * THUMBNAIL), Image.Resampling.NEAREST)).convert("L")
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
    """Number of frames or pages; of a TIFF at most FRAMES, since the time to count them grows with their square."""
    count = 1
    with suppress(Exception):  # damaged later frames raise many kinds, and so does the end; the first one was loaded
        while image.format == "TIFF" and count < FRAMES:
            image.seek(count)
            count += 1
        if image.format not in ("TIFF", "MPO"):  # the second frame of an MPO is a camera's preview
            return int(getattr(image, "n_frames", 1))
    return count


def orientation(image: Image.Image) -> int:
    if {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & image.info.keys() or image.format == "TIFF":
        with suppress(Exception):  # EXIF may be damaged in many ways; MindSpore ignores it
            value = int(image.getexif().get(ORIENTATION, 1))
            return value if 1 <= value <= 8 else 1
    return 1


def check_shape(image: Image.Image, size: int, most: int) -> None:
    """Require a shape that can be resized, and no more pixels than a file of `size` bytes honestly holds.

    Training and evaluation set the shorter side and keep the ratio.
    """
    shape, pixels = f"{image.width}x{image.height} pixels", image.width * image.height
    raw = pixels / 8 if image.mode == "1" else pixels * len(image.getbands())
    if pixels > LARGE and (pixels > most or size * HONEST < raw):
        raise UnusableImage("bomb", f"{shape} in a file of {size:,} bytes: more than Pillow considers safe")
    if max(image.size) > LONGEST * min(image.size):
        raise UnusableImage("elongated", f"{shape}: one side is more than {LONGEST} times the other; crop it")


# --- the other requests ----------------------------------------------------------------------------------------------


def pixels(path: Path) -> dict[str, Any]:
    """Digest of the pixels after MindSpore's conversion: equal for equal pixels in any format."""
    with load_image(read(path))[0] as image:
        rgb = plain(image).convert("RGB")
        return {"pixels": hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()}


def mask(path: Path) -> dict[str, Any]:
    """The shape of a picture of classes, and {value: pixels} if its mode stores class numbers."""
    with load_image(read(path))[0] as image:
        facts: dict[str, Any] = {
            "format": image.format,
            "mode": image.mode,
            "width": image.width,
            "height": image.height,
        }
        if image.mode.startswith("I"):
            image = image.convert("I")
            facts["values"] = {str(value): 0 for value in extrema(image)[0]}
            if extrema(image)[0][1] > 255 or extrema(image)[0][0] < 0:
                return facts
            image = image.convert("L")
        if image.mode not in ("1", "L", "P"):
            return facts
        counts = image.histogram()[:256]
        if image.mode == "1":
            counts = [counts[0], counts[255]]
        return facts | {"values": {str(value): count for value, count in enumerate(counts) if count}}


def preview(path: Path) -> dict[str, Any]:
    """A small JPEG for an HTML page, base64."""
    with load_image(read(path))[0] as image:
        small = on_white(image)
        small.thumbnail((112, 112))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        return {"jpeg": base64.b64encode(buffer.getvalue()).decode()}


def convert(path: Path) -> dict[str, Any]:
    """Write a copy beside the file that all decoders read alike: 8-bit RGB, upright, first frame, alpha on white.

    JPEG if the file was lossy, otherwise PNG; at most COPY pixels a side if it was LARGE; under a new name that ends
    in .partial.
    """
    import secrets

    from PIL import ImageOps

    image, _ = load_image(read(path))
    with image:
        lossy = image.format in LOSSY
        if image.width * image.height > LARGE:
            image = image if image.mode in ("L", "RGB", "RGBA", "CMYK") else on_white(image)  # these can be averaged
            image.thumbnail((COPY, COPY), reducing_gap=2)
        upright = on_white(ImageOps.exif_transpose(image))
        copy = path.with_name(f".{secrets.token_hex(8)}.partial")
        with copy.open("xb") as file:  # x: a new file, never one that a link names
            if lossy:
                upright.save(file, "JPEG", quality=95, subsampling=0)
            else:
                upright.save(file, "PNG")
        return {"copy": str(copy), "suffix": ".jpg" if lossy else ".png"}


def decode(path: Path) -> dict[str, Any]:
    """Write the pixels to a file beside it: upright RGB, and as MindSpore decodes it if it can and need not turn it."""
    from PIL import ImageOps

    content = read(path)
    image, orientation = load_image(content, LARGE)
    with image:
        stricter_than_pillow(image, content)
        as_is = image.format in DECODED and orientation == 1
        rgb = plain(image) if as_is else on_white(ImageOps.exif_transpose(image))
        rgb = rgb if rgb.mode == "RGB" else rgb.convert("RGB")
        copy = path.with_name(path.name + ".ppm")  # which ends in the pixels, row by row, 3 bytes each
        with copy.open("xb") as file:
            rgb.save(file, "PPM")  # three times as fast as tobytes(), and no second copy in memory
        return {"code": "", "copy": str(copy), "width": rgb.width, "height": rgb.height}


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
    function.__name__: function for function in (look, pixels, mask, preview, convert, decode)
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
