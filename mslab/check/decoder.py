"""What MindSpore's decoder refuses, misreads or takes very long for, although Pillow loads it."""

import re
import zlib
from typing import Any

from mslab.check.formats import RAW

REFUSED = "MindSpore's decoder would refuse it"
UNSUPPORTED = "MindSpore's decoder refuses it; save it as JPEG or PNG"
RUN = 16  # equal bytes before a JPEG's end marker that may be no picture
SCANS = 100  # of a JPEG; encoders write about ten, and each takes as long to decode as a JPEG without scans
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of a JPEG; those left out stand alone, or within a scan's data
COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)  # of TIFF, in MindSpore's decoder: not LZMA, Zstandard, WebP


class UnusableImage(Exception):
    """An image that training cannot use: (code, problem)."""


def stricter_than_pillow(image: Any, content: bytes) -> None:
    """Raise UnusableImage if Pillow loads the image and MindSpore does not."""
    if image.format == "PNG":
        check_png(content)
    elif image.format == "TIFF":
        check_tiff(image)
    elif image.format == "BMP":
        check_bmp(content)
    elif image.format in ("JPEG", "MPO"):
        check_jpeg(image, content)


def check_jpeg(image: Any, content: bytes) -> None:
    """Require colours that all decoders read alike, and a picture that is not compressed without loss."""
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise UnusableImage("decoder", "a CMYK JPEG without Adobe's mark: MindSpore sees its negative")
    at = 0
    while marker := MARKER.search(content, at):
        if (kind := marker[0][1]) in range(0xC0, 0xD0) and kind not in (0xC4, 0xC8, 0xCC):  # these are no frames
            if kind == 0xC3:
                raise UnusableImage("decoder", f"a lossless JPEG; {REFUSED}")
            return
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")


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
    samples = tags.get(277, 1)
    if samples > 4 or (tags[262], depth) == (5, 16):
        raise UnusableImage("decoder", f"a TIFF with {samples} channels of {depth} bits; {REFUSED}")
    if 324 in tags and tags.get(259, 1) == 1:  # uncompressed tiles; measured: 500 sizes and kinds
        size = (tags[322] * (samples if tags.get(284, 1) == 1 else 1) * depth + 7) // 8 * tags[323]
        if size % 1024:
            raise UnusableImage("decoder", f"a TIFF with tiles of {size} bytes, no multiple of 1024; {REFUSED}")
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


def jpeg_end(content: bytes) -> int:
    """Position of a JPEG's end marker: previews and videos may follow it."""
    at = 0
    while marker := MARKER.search(content, at):
        if marker[0][1] == 0xD9:
            return marker.start()
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return len(content)


def check_raw(image: Any) -> None:
    """Refuse a camera's raw data in the form of a TIFF, whose first picture is a preview of some hundred pixels."""
    tags = image.tag_v2
    if 50706 in tags or (tags.get(254, 0) & 1 and 330 in tags):  # DNG; a reduced picture, with others below it
        raise UnusableImage("format", f"{RAW}: {UNSUPPORTED}")
