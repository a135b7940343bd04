"""TFRecord files without TensorFlow: framed records, each with two masked CRC32C checksums.

A record is: length (uint64, little-endian), masked CRC32C of those 8 bytes (uint32), the data, masked CRC32C of the data (uint32).
A checksum is masked by rotating it right by 15 bits and adding 0xA282EAD8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numba import njit

from worldengine_envs.errors import DataError

MAX_RECORD = 256 * 2**20  # bytes of one record; Waymo's scenarios have 1 MB, with LiDAR some 10 MB
HEADER = 12
_CHUNK = 2**20
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reversed


def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


_TABLE = _table()


@njit(cache=True, nogil=True)
def _crc(data, table):
    crc = np.uint32(0xFFFFFFFF)
    for byte in data:
        crc = table[(crc ^ byte) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """Returns the CRC32C (Castagnoli) of bytes."""
    return int(_crc(np.frombuffer(data, np.uint8), _TABLE))


def masked_crc32c(data: bytes) -> int:
    """Returns the checksum as TFRecord files hold it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def is_tfrecord(start: bytes) -> bool:
    """Whether bytes begin with the header of a record: a length and its right checksum."""
    return len(start) >= HEADER and struct.unpack("<I", start[8:HEADER])[0] == masked_crc32c(start[:8])


def read_records(stream: BinaryIO) -> Iterator[tuple[int, bytes | DataError]]:
    """Yields the number and the data of each record, or the error of one whose data is damaged.

    Memory is taken only for bytes that are really in the file.

    Raises:
        DataError: The file ends inside a record, a length is damaged or too large: what follows cannot be found.
    """
    number = 0
    while header := _read(stream, HEADER):
        field = f"record {number}"
        if len(header) < HEADER:
            raise DataError("the file ends inside a record's header", field=field, remedy="Download it again")
        if not is_tfrecord(header):
            raise DataError("the checksum of its length is wrong", field=field, remedy="Download the file again")
        (length,) = struct.unpack("<Q", header[:8])
        if length > MAX_RECORD:
            raise DataError(f"claims {length} bytes, more than {MAX_RECORD}", field=field)
        data, tail = _read(stream, length), _read(stream, 4)
        if len(data) < length or len(tail) < 4:
            raise DataError(f"the file ends after {len(data)} of {length} bytes", field=field, remedy="Download it again")
        good = struct.unpack("<I", tail)[0] == masked_crc32c(data)
        yield number, data if good else DataError("the checksum of its data is wrong", field=field, remedy="Download it again")
        number += 1


def _read(stream: BinaryIO, length: int) -> bytes:
    parts, left = [], length
    while left > 0 and (part := stream.read(min(left, _CHUNK))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
