"""Protocol Buffers without their library: bytes into dicts, by a table of the fields that are wanted.

Only what the wire format needs (https://protobuf.dev/programming-guides/encoding/). Fields that are not in the table are skipped
unread, so nesting goes no deeper than the tables, and nothing is allocated by what a length claims.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from worldengine_envs.errors import DataError

MAX_FIELDS = 2_000_000  # of one message and those inside it, their lists included; a scenario has some 200,000
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTH = {"int": 1, "bool": 1, "double": 8, "float": 4}
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Args:
        name: Key in the dict that comes out.
        kind: "int" (int32, int64, enum), "bool", "double", "float", "text", or the table of a message.
        repeated: Whether it is a list; packed or not makes no difference.
    """

    name: str
    kind: str | dict[int, Field]
    repeated: bool = False

    @property
    def packed_width(self) -> int:
        """Bytes that one number takes at least where it is packed, 0 = never packed."""
        return _WIDTH.get(self.kind, 0) if isinstance(self.kind, str) and self.repeated else 0


def parse(data: bytes, table: dict[int, Field]) -> dict:
    """Returns the fields of a message by name: what the file does not hold is missing, or an empty list where it is repeated.

    Raises:
        DataError: The bytes are no such message; ``field`` says where.
    """
    return _Parser(data).message(0, len(data), table, "")


class _Parser:
    def __init__(self, data: bytes):
        self.data, self.left = data, MAX_FIELDS

    def message(self, at: int, end: int, table: dict[int, Field], where: str) -> dict:
        data = self.data
        out = {field.name: [] for field in table.values() if field.repeated}
        self.left -= len(out)  # an empty message takes memory too
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise DataError(f"more than {MAX_FIELDS} fields", field=where)
            key = data[at]
            at += 1
            if key > 127:
                key, at = self.varint(at - 1, end, where)
            field, wire = table.get(key >> 3), key & 7
            if wire == BYTES:
                size, at = self.varint(at, end, where)
                stop = at + size
            elif wire == FIXED64:
                stop = at + 8
            elif wire == FIXED32:
                stop = at + 4
            elif wire == VARINT:
                value, stop = self.varint(at, end, where)
            else:
                raise DataError(f"wire type {wire} of field {key >> 3}", field=where, remedy="Is the file damaged?")
            if stop > end:
                raise DataError(f"field {key >> 3} ends {stop - end} bytes after its message", field=where)
            if field is not None:
                if wire != VARINT:
                    value = self.value(out, field, wire, at, stop, where)
                elif field.kind == "int":
                    value = _integer(value)
                elif field.kind == "bool":
                    value = value != 0
                else:
                    raise _wrong(wire, field, where)
                if not field.repeated:
                    out[field.name] = value
                elif wire == BYTES and field.packed_width:
                    out[field.name] += value
                else:
                    out[field.name].append(value)
            at = stop
        return out

    def value(self, out: dict, field: Field, wire: int, at: int, stop: int, where: str):
        """Returns the value in bytes ``at`` to ``stop``; a list of them where they are packed."""
        kind = field.kind
        if isinstance(kind, dict) and wire == BYTES:
            name = f"{field.name}[{len(out[field.name])}]" if field.repeated else field.name
            return self.message(at, stop, kind, _join(where, name))
        if kind == "double" and wire == FIXED64:
            return _DOUBLE.unpack_from(self.data, at)[0]
        if kind == "float" and wire == FIXED32:
            return _FLOAT.unpack_from(self.data, at)[0]
        if kind == "text" and wire == BYTES:
            try:
                return self.data[at:stop].decode()
            except UnicodeDecodeError:
                raise DataError("is no UTF-8", field=_join(where, field.name)) from None
        if wire == BYTES and field.packed_width:
            return self.packed(at, stop, field, _join(where, field.name))
        raise _wrong(wire, field, where)

    def packed(self, at: int, stop: int, field: Field, where: str) -> list:
        kind = field.kind
        count, rest = divmod(stop - at, field.packed_width)
        self.left -= count
        if self.left < 0:
            raise DataError(f"more than {MAX_FIELDS} fields", field=where)
        if rest:
            raise DataError(f"{stop - at} bytes are no packed {kind}s", field=where)
        if kind in ("double", "float"):
            return list(struct.unpack_from(f"<{count}{kind[0]}", self.data, at))
        values = []
        while at < stop:
            value, at = self.varint(at, stop, where)
            values.append(_integer(value) if kind == "int" else value != 0)
        return values

    def varint(self, at: int, end: int, where: str) -> tuple[int, int]:
        """Returns an unsigned number of at most 64 bits and where it ends."""
        data, value, shift = self.data, 0, 0
        while at < end and shift < 70:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
        raise DataError("a number has no end" if shift >= 70 else "the message ends inside a number", field=where)


def _integer(value: int) -> int:
    """Returns the signed number: negative ones are written as 64 bits of two's complement."""
    return value - 2**64 if value >= 2**63 else value


def _wrong(wire: int, field: Field, where: str) -> DataError:
    wanted = field.kind if isinstance(field.kind, str) else "message"
    return DataError(f"has wire type {wire}, no {wanted}", field=_join(where, field.name))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
