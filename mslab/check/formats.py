"""Which files are images: the one list, for the check, training, import, prediction, serving and archives alike.

A file is an image if its first bytes are those of one. They are read only where the name does not end like an image's:
such a name is believed until the file is loaded.
"""

import os
import re

# Pillow's names. MPO is a JPEG with more pictures after it
DECODED = {"JPEG", "MPO", "PNG", "BMP", "TIFF"}  # by MindSpore
READ = (*("JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP"), *("AVIF", "JPEG2000", "ICO", "TGA"))
HEIF = "HEIF"  # what Pillow calls a HEIC with the package pillow-heif, without which it reads none
LOSSY = {"JPEG", "MPO", "WEBP", "AVIF", HEIF}  # --convert makes JPEGs of them, PNGs of the others

SUFFIXES = {  # endings of images' names -> what such a file usually contains
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo"), ("JPEG", "MPO")),
    **dict.fromkeys((".png", ".apng"), ("PNG",)),
    **dict.fromkeys((".bmp", ".dib"), ("BMP", "DIB")),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    ".gif": ("GIF",),
    ".webp": ("WEBP",),
    ".ico": ("ICO",),
    ".tga": ("TGA",),
    **dict.fromkeys((".avif", ".avifs"), ("AVIF",)),
    **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), (HEIF,)),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx"), ("JPEG2000",)),
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), ("PPM",)),
    **dict.fromkeys((".jxl", ".psd", ".svg"), ()),
    **dict.fromkeys((".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".orf"), ()),  # cameras' raw data
    **dict.fromkeys((".rw2", ".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw"), ()),
}
HEAD = 1000  # bytes of a file that name_of needs

STARTS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF"}
RAW = "raw data of a camera"
# of files in which Pillow would find only a preview, or that no decoder here reads
OTHERS = {b"II*\0\x10\0\0\0CR": RAW, b"IIRO": RAW, b"IIRS": RAW, b"MMOR": RAW, b"IIU\0": RAW, b"FUJIFILMCCD-RAW": RAW}
OTHERS |= {b"II\x1a\0\0\0HEAPCCDR": RAW, b"FOVb": RAW, b"\0MRM": RAW, b"8BPS": "PSD", b"<svg": "SVG"}
OTHERS |= {b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"%!PS": "EPS", b"\xc5\xd0\xd3\xc6": "EPS"}
OTHERS |= {b"icns": "ICNS", b"DDS ": "DDS", b"qoif": "QOI", b"gimp xcf": "XCF", b"\xd7\xcd\xc6\x9a": "WMF"}
OTHERS |= {b"SIMPLE  =": "FITS", b"v/1\x01": "OpenEXR", b"#?RADIANCE": "Radiance HDR", b"II\xbc\x01": "JPEG XR"}
OTHERS |= {b"AT&TFORM": "DjVu", b"BPG\xfb": "BPG", b"FLIF": "FLIF"}
STARTS |= {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"}
STARTS |= {b"\0\0\0\x0cjP  ": "JPEG2000", b"\xff\x4f\xff\x51": "JPEG2000"}
NO_IMAGES = {b"%PDF": "PDF", b"PK\3\4": "ZIP", b"\xd0\xcf\x11\xe0": "OLE", b"\x89HDF": "HDF5", b"\x1f\x8b": "gzip"}
NO_IMAGES |= {b"\0\5\x16\7": "data that macOS keeps beside a file", b"\x1aE\xdf\xa3": "a video", b"OggS": "sound"}
NO_IMAGES |= {b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the file"}
NO_IMAGES |= {b"\0\0\1\xba": "a video", b"ID3": "sound", b"fLaC": "sound", b"RIFF": "sound or a video"}
BRANDS = {b"hei": "HEIC", b"hev": "HEIC", b"mif": "HEIC", b"msf": "HEIC", b"avi": "AVIF", b"crx": RAW}
IMAGES = {*STARTS.values(), *OTHERS.values(), "BMP", "WEBP", "PPM", "AVIF", "HEIC", "DICOM"}
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes; BM alone also starts many a text
PPM = re.compile(rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s")


def suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def is_image(name: str) -> bool:
    """Whether a name ends like that of an image. Hidden files are none: programs leave them behind."""
    return suffix_of(name) in SUFFIXES and not name.startswith(".")


def name_of(content: bytes) -> str:
    """What a file is by its first HEAD bytes: Pillow's name of its format, another name, or ""."""
    if content[4:8] == b"ftyp":
        generic = content[8:11] in (b"mif", b"msf") and b"avif" in content[16:64]  # both formats may call themselves so
        return "AVIF" if generic else BRANDS.get(content[8:11], "a video")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:2] == b"BM" and int.from_bytes(content[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if content[128:132] == b"DICM":
        return "DICOM"
    if PPM.match(content):
        return "PPM"
    head = content[:HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.lower().startswith((b"<!doctype html", b"<html")):
        return "HTML"
    if head.startswith(b"<?xml") and b"<svg" in head:
        return "SVG"
    for starts in (OTHERS, STARTS, NO_IMAGES):  # a raw file may start like a TIFF
        for start, name in starts.items():
            if content.startswith(start) or (start in (b"<svg", b"%!PS") and head.startswith(start)):
                return name
    return ""


def is_format(kind: str) -> bool:
    """Whether name_of gives this of an image, even of one that nothing here can read."""
    return kind in IMAGES
