"""Code of a worker process: load one image at a time in full and answer in lines of JSON.

A file that crashes, hangs or exhausts memory ends this process and nothing else. Only Pillow is imported at the start,
and modules that few files need with those files, so that a worker starts in less than a tenth of a second.

open_image is the only place in mslab that lets Pillow identify a file.
"""

import sys

if __name__ == "__main__":
    del sys.path[0]  # this folder: its modules must not hide others of the same name

import base64
import hashlib
import io
import json
import re
import stat
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError

FORMATS = {"JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF"}  # that MindSpore decodes; MPO is a JPEG with more data after it
READ = (*("JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP"), *("AVIF", "JPEG2000", "ICO", "TGA"))
UNSUPPORTED = "MindSpore's decoder refuses it; save it as JPEG or PNG"
LONGEST = 256  # times as long as wide: at image_size 1024 its resized copy takes 0.8 GB. No side that this and Pillow's
# limit of 89 million pixels allow is too long for MindSpore, whose limit is 1,000,000 for a PNG and 2**20 for others
FRAMES = 100  # or pages of a TIFF that are counted
SCANS = 100  # of a JPEG; encoders write about ten, and each takes as long to decode as a JPEG without scans
ORIENTATION = 274  # EXIF tag; 1 is upright
THUMBNAIL = 32  # pixels, side of the grey thumbnail used to find duplicates
READY = "ready"  # the worker's first line, once everything is imported
REFUSED = "MindSpore's decoder would refuse it"
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of a JPEG; those left out stand alone, or within a scan's data
COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)  # of TIFF, in MindSpore's decoder: not LZMA, Zstandard, WebP


class UnusableImage(Exception):
    """An image that training cannot use: (code, problem)."""


def look(path: Path) -> dict[str, Any]:
    """Load one image and return the values that the rules need. Raises UnusableImage."""
    content = read(path)
    image, orientation = load_image(content)
    answer = {"code": "", "problem": "", "sha256": hashlib.sha256(content).hexdigest(), "orientation": orientation}
    with image:
        try:
            stricter_than_pillow(image, content)
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
    try:
        return Image.open(file, formats=READ)
    except KeyError:  # a Pillow without AVIF, or built without WebP, which has registered all others by now
        return Image.open(file, formats=[name for name in READ if name in Image.OPEN])


def load_image(content: bytes) -> tuple[Image.Image, int]:
    """The image, loaded in full, and its EXIF orientation (1 is upright). Raises UnusableImage."""
    if content[:2] in (b"II", b"MM"):
        from PIL import TiffImagePlugin

        TiffImagePlugin.READ_LIBTIFF = True  # as in MindSpore; Pillow's own reader is less strict
    if content[:2] == b"\xff\xd8":
        check_scans(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = open_image(io.BytesIO(content))
            check_shape(image)
            turned = orientation(image)  # before loading, which turns a TIFF
            image.load()
        return image, max(turned, orientation(image))  # and after, since a PNG may store it at its end
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusableImage("bomb", "more pixels than Pillow considers safe") from None
    except UnusableImage:
        raise
    except UnidentifiedImageError:
        if name := name_of(content):
            raise UnusableImage("format", f"{name}: {UNSUPPORTED}") from None
        raise UnusableImage("unreadable", "not an image in a format that mslab opens, or damaged") from None
    except MemoryError:
        raise UnusableImage("crash", "loading it takes more memory than a worker has") from None
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        code = "truncated" if "truncated" in str(error).lower() else "unreadable"
        raise UnusableImage(code, f"Pillow: {error}"[:200]) from None


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


# --- files that are not loaded ---------------------------------------------------------------------------------------
# A format that is not in READ is named by its first bytes: nothing opens such a file.

NAMES = {b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS", b"%PDF": "PDF", b"8BPS": "PSD", b"\xd7\xcd\xc6\x9a": "WMF"}
NAMES |= {b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"icns": "ICNS", b"DDS ": "DDS", b"\x89HDF": "HDF5"}
NAMES |= {b"SIMPLE  =": "FITS", b"qoif": "QOI", b"PK\3\4": "ZIP", b"\xd0\xcf\x11\xe0": "OLE"}
NAMES |= {b"<svg": "SVG", b"gimp xcf": "XCF"}
BRANDS = {b"hei": "HEIC", b"hev": "HEIC", b"mif": "HEIC", b"msf": "HEIC", b"avi": "AVIF"}


def name_of(content: bytes) -> str:
    """The name of a format that mslab does not open, by its first bytes, or ""."""
    if content[4:8] == b"ftyp":
        return BRANDS.get(content[8:11], "a video")
    head = content[:1000].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.lower().startswith((b"<!doctype html", b"<html")):
        return "HTML"
    if head.startswith(b"<?xml") and b"<svg" in head:
        return "SVG"
    return next((name for start, name in NAMES.items() if head.startswith(start)), "")


def check_shape(image: Image.Image) -> None:
    """Require a shape that can be resized: training and evaluation set the shorter side and keep the ratio."""
    if max(image.size) > LONGEST * min(image.size):
        shape = f"{image.width}x{image.height} pixels"
        raise UnusableImage("elongated", f"{shape}: one side is more than {LONGEST} times the other; crop it")


def check_scans(content: bytes) -> None:
    """Require few scans in a JPEG: the time to decode it is proportional to them, and they can be a few bytes each."""
    scans, at, frame = 0, 0, b""
    while marker := MARKER.search(content, at):  # like libjpeg, which skips other bytes between segments
        kind, start = marker[0][1], marker.end()
        if kind == 0xD9:  # the end; previews and videos that follow do not count
            break
        if kind in (0xC0, 0xC1, 0xC9):
            frame = content[start + 7 : start + 8]  # number of components
        scans += kind == 0xDA
        if scans == 1 and frame and content[start + 2 : start + 3] == frame:
            return  # neither progressive nor one component at a time: libjpeg reads no other scan
        at = start + int.from_bytes(content[start : start + 2], "big")
    if scans > SCANS:
        raise UnusableImage("slow", f"a JPEG of {scans} scans: decoding it takes as long as {scans} images")


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
    if tags.get(262) is None or not ({273, 324} & tags.keys()):
        raise UnusableImage("decoder", f"a TIFF without tags for its colours or strips; {REFUSED}")
    if depth not in (1, 8, 16) and (depth, tags[262]) != (4, 3):  # 4 bits only with a palette
        raise UnusableImage("decoder", f"a TIFF with {depth} bits per sample; {REFUSED}")
    if tags.get(259, 1) not in COMPRESSIONS:
        raise UnusableImage("decoder", f"a TIFF with the compression {image.info.get('compression')}; {REFUSED}")
    rows = tags.get(278, 0)
    if rows != 2**32 - 1 and image.width * rows * 4 * max(1, depth // 8) > 2**30:
        raise UnusableImage("decoder", f"a TIFF that claims {rows} rows per strip; {REFUSED}")


def check_bmp(content: bytes) -> None:
    """Require what Pillow tolerates: complete rows and palette, and 8-bit run lengths that stay inside their row."""
    start, header, width, height = (int.from_bytes(content[at : at + 4], "little") for at in (10, 14, 18, 22))
    if header < 40:
        width, height, bits, compression, palette = width % 2**16, width >> 16, content[24], 0, 0
    else:
        bits, compression, colours = content[28], content[30], int.from_bytes(content[46:50], "little")
        palette = 4 * (colours or 2**bits) if bits <= 8 else 0
    rows = min(height, 2**32 - height)  # negative if the first row is the top one
    end = start + (width * bits + 31) // 32 * 4 * rows if compression in (0, 3) else 0
    if max(end, 14 + header + palette) > len(content):
        raise UnusableImage("truncated", f"a BMP without the end of its last row or of its palette; {REFUSED}")
    if compression == 1:
        check_bmp_runs(content, start, width)


def check_bmp_runs(content: bytes, at: int, width: int) -> None:
    column = 0
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
    with load_image(read(path))[0] as image:
        rgb = plain(image).convert("RGB")
        return {"pixels": hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()}


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

    JPEG if the file was lossy, otherwise PNG; under a new name that ends in .partial.
    """
    import secrets

    from PIL import ImageOps

    with load_image(read(path))[0] as image:
        lossy = image.format in ("JPEG", "MPO", "WEBP")
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
    image, orientation = load_image(content)
    with image:
        stricter_than_pillow(image, content)
        as_is = image.format in FORMATS and orientation == 1
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
    function.__name__: function for function in (look, pixels, preview, convert, decode)
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
