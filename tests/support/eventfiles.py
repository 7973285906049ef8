"""TensorBoard's event files, read record by record."""

import io
import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def events(run):
    """Every event of a run's files, in order. Asserts that both checksums of each record are right."""
    result = []
    for path in sorted((Path(run) / "tensorboard").iterdir()):
        file = io.BytesIO(path.read_bytes())
        while head := file.read(12):
            length, check = struct.unpack("<QI", head)
            record = file.read(length)
            assert check == masked_crc32c(head[:8])
            assert struct.unpack("<I", file.read(4)) == (masked_crc32c(record),)
            result.append(Event.FromString(record))
    return result


def series(run):
    """tag -> [(step, value), ...] in the order of the files."""
    result = {}
    for event in events(run):
        for value in event.summary.value:
            result.setdefault(value.tag, []).append((event.step, value))
    return result


def epochs_of(run, tag="loss/train"):
    return [step for step, _ in series(run)[tag]]
