"""What runs in a worker process: one image at a time is loaded in full, and what was seen is one line of JSON.

A file that crashes, hangs or eats memory takes this process with it and nothing else. Only Pillow is imported here, and
what few files need only with them, so that a worker starts in less than a tenth of a second.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder: its modules must not stand in for others of the same name

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

FORMATS = {"JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF"}  # what MindSpore decodes; MPO is a JPEG with more behind it
ORIENTATION = 274  # EXIF tag; 1 is upright
THUMBNAIL = 32  # pixels, side of the grey thumbnail that duplicates are looked for with
READY = "ready"  # its first line, once everything is imported
REFUSED = "MindSpore's decoder would refuse it"


class UnusableImage(Exception):
    """An image that training cannot take: (code, what was seen)."""


def look(path: Path) -> dict[str, Any]:
    """Load one image: what the rules ask for. Raises UnusableImage where that fails."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableImage("permission", f"it cannot be read: {error.strerror}") from None
    if not content:
        raise UnusableImage("zero-byte", "the file is empty")
    image, orientation = opened(content)
    seen = {"code": "", "problem": "", "sha256": hashlib.sha256(content).hexdigest(), "orientation": orientation}
    with image:
        try:
            stricter_than_pillow(image, content)
        except UnusableImage as unusable:
            seen |= {"code": unusable.args[0], "problem": unusable.args[1]}
        return seen | facts(image)


def opened(content: bytes) -> tuple[Image.Image, int]:
    """The image, loaded in full, and its EXIF orientation (1 is upright). Raises UnusableImage."""
    if content[:2] in (b"II", b"MM"):
        from PIL import TiffImagePlugin

        TiffImagePlugin.READ_LIBTIFF = True  # as MindSpore reads it; Pillow's own reader is less strict
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
            turned = orientation(image)  # before loading, which turns a TIFF
            image.load()
        return image, max(turned, orientation(image))  # and after, since a PNG may tell it at its end
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusableImage("bomb", "more pixels than Pillow takes for safe") from None
    except UnidentifiedImageError:
        raise UnusableImage("unreadable", "no image that Pillow knows") from None
    except MemoryError:
        raise UnusableImage("crash", "loading it takes more memory than a worker has") from None
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        code = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise UnusableImage(code, f"Pillow: {error}"[:200]) from None


def facts(image: Image.Image) -> dict[str, Any]:
    """What the rules ask of a loaded image."""
    grey = plain(image.resize((3 * THUMBNAIL, 3 * THUMBNAIL), Image.Resampling.NEAREST)).convert("L")
    darkest, lightest = extrema(grey)[0]
    thumbnail = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return {
        "format": image.format,
        "mode": image.mode,
        "width": image.width,
        "height": image.height,
        "blank": lightest - darkest <= 2 and spread(image) <= 2,  # the first is cheap, the second sees every pixel
        "thumbnail": base64.b64encode(thumbnail.tobytes()).decode(),
        "frames": frames(image),  # last, since asking may move to another frame
    }


def plain(image: Image.Image) -> Image.Image:
    """Wide pixels by their upper byte, as MindSpore converts them, and modes that Pillow does not turn into RGB."""
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    return image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode]) if image.mode in ("RGBa", "La") else image


def extrema(image: Any) -> list[tuple[float, float]]:
    """(lowest, highest) value of each band."""
    found = image.getextrema()
    return [found] if len(image.getbands()) == 1 else list(found)


def spread(image: Image.Image) -> float:
    """Largest difference between two pixels, 0 to 255."""
    return max(high - low for low, high in extrema(plain(image).convert("RGB")))


def frames(image: Image.Image) -> int:
    if image.format == "MPO":  # a camera's preview, no animation
        return 1
    with suppress(Exception):  # damaged later frames raise many kinds; the first one was loaded
        return int(getattr(image, "n_frames", 1))
    return 1


def orientation(image: Image.Image) -> int:
    if {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"} & image.info.keys() or image.format == "TIFF":
        with suppress(Exception):  # EXIF is damaged in many ways; MindSpore does not look at it
            told = int(image.getexif().get(ORIENTATION, 1))
            return told if 1 <= told <= 8 else 1
    return 1


# --- where MindSpore's decoder is stricter than Pillow ---------------------------------------------------------------


def stricter_than_pillow(image: Image.Image, content: bytes) -> None:
    """Raises UnusableImage for what Pillow loads and MindSpore does not."""
    if image.format == "PNG":
        check_png(content)
    elif image.format == "TIFF":
        check_tiff(image)
    elif image.format == "BMP":
        check_bmp(content)


def check_png(content: bytes) -> None:
    """Every chunk up to IEND whole and with the right checksum: libpng asks for it, Pillow does not."""
    start = 8
    while start + 12 <= len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        if end > len(content):
            break
        if zlib.crc32(content[start + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise UnusableImage("decoder", f"a part of it is damaged (checksum at byte {end - 4}); {REFUSED}")
        if content[start + 4 : start + 8] == b"IEND":
            return
        start = end
    raise UnusableImage("truncated", f"it ends before its last part (IEND); {REFUSED}")


def check_tiff(image: Any) -> None:
    """The tags without which MindSpore's decoder gives up, and depths that it has."""
    tags = image.tag_v2
    depth = max(tags.get(258, (1,)))
    if 262 not in tags or not ({273, 324} & tags.keys()):
        raise UnusableImage("decoder", f"a TIFF without its tags for colours or strips; {REFUSED}")
    if depth not in (1, 2, 4, 8, 16, 32, 64) or (depth == 32 and image.mode != "F"):
        raise UnusableImage("decoder", f"a TIFF of {depth} bits a sample; {REFUSED}")
    rows = tags.get(278, 0)
    if rows != 2**32 - 1 and image.width * rows * 4 * max(1, depth // 8) > 2**30:
        raise UnusableImage("decoder", f"a TIFF that says {rows} rows a strip; {REFUSED}")


def check_bmp(content: bytes) -> None:
    """Run lengths (8 bits) that stay inside their row: Pillow cuts what runs over, MindSpore refuses."""
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
            raise UnusableImage("decoder", f"a BMP whose runs go over the end of a row; {REFUSED}")


# --- the other requests ----------------------------------------------------------------------------------------------


def pixels(path: Path) -> dict[str, Any]:
    """A digest of what MindSpore would see: equal for equal pixels, whatever the format."""
    with opened(path.read_bytes())[0] as image:
        seen = plain(image).convert("RGB")
        return {"pixels": hashlib.sha256(repr(seen.size).encode() + seen.tobytes()).hexdigest()}


def preview(path: Path) -> dict[str, Any]:
    """A small JPEG for a page, base64."""
    with opened(path.read_bytes())[0] as image:
        small = on_white(image)
        small.thumbnail((112, 112))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        return {"jpeg": base64.b64encode(buffer.getvalue()).decode()}


def convert(path: Path) -> dict[str, Any]:
    """A copy that every decoder reads alike, beside the file: 8-bit RGB, upright, first frame, transparency on white.

    JPEG where the file was lossy, PNG otherwise, under a name ending in .partial.
    """
    from PIL import ImageOps

    with opened(path.read_bytes())[0] as image:
        lossy = image.format in ("JPEG", "MPO", "WEBP")
        upright = on_white(ImageOps.exif_transpose(image))
        copy = path.with_name(path.name + ".partial")
        if lossy:
            upright.save(copy, "JPEG", quality=95, subsampling=0)
        else:
            upright.save(copy, "PNG")
        return {"copy": str(copy), "suffix": ".jpg" if lossy else ".png"}


def on_white(image: Image.Image) -> Image.Image:
    """RGB for people: transparency on white, a wide range of values stretched to 0 to 255."""
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
    """Answer a line of (request, paths) with a line of answers. `memory`: bytes of address space of this process."""
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
    except Exception as error:  # one file's trouble is one answer
        return {"code": "unreadable", "problem": f"{type(error).__name__}: {error}"[:200]}


if __name__ == "__main__":
    serve(int(sys.argv[1]))
