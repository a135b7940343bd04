"""Reading foreign pickles without running them: numpy arrays and plain containers come through, nothing else.

The reader is a stack machine over a short list of opcodes (the pure Python machine of the standard library with most of its table
removed). Names in the file are looked up in a table of four harmless constructors, never imported; arrays are made only from bytes
that are really in the file, so no claim about a size is believed.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np

from worldengine_envs.errors import DataError

MAX_BYTES = 512 * 2**20  # a larger file is refused before it is read
MAX_DEPTH = 32  # nesting of containers
MAX_ITEMS = 50_000_000  # objects in one file
MAX_GROWTH = 16  # bytes made for each byte read: the same bytes may be asked for again and again
MAX_INT_BITS = 1023  # larger ones do not fit into a float

_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|[SU]\d{1,6}|O8?|\?|[bBhHiIlLqQefd])")
_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS "
    "FROZENSET GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD"
).split()


class _Refused(Exception):
    """Something in the file that is not plain data."""


class _Dtype:
    """Stands in for ``numpy.dtype(code, False, True)`` and its state."""

    def __init__(self, code, *_flags):
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise _Refused(f"array element type {str(code)[:40]!r}")
        self.dtype = np.dtype(code)

    def build(self, state):
        if not isinstance(state, tuple) or len(state) < 5 or any(item is not None for item in state[2:5]):
            raise _Refused("a structured array element type")
        order = state[1]
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)
        return self


class _Array:
    """Stands in for an array between its construction and the bytes that follow; ``built`` once they are there."""

    def __init__(self, kind, _shape=(0,), _code=b"b"):
        if kind is not _ndarray:
            raise _Refused("an array of another class")

    def build(self, state):
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[1], tuple) and isinstance(state[2], _Dtype)):
            raise _Refused("an array without its state")
        _, shape, dtype, fortran, data = state
        return _make_array(shape, dtype.dtype, data, "F" if fortran else "C")


def _make_array(shape, dtype, data, order):
    if any(not isinstance(n, int) or n < 0 for n in shape) or len(shape) > 8:
        raise _Refused("an array with a malformed shape")
    count = math.prod(shape)
    if dtype.kind == "O":
        if not isinstance(data, list) or len(data) != count:
            raise _Refused(f"an array that claims {count} objects and does not have them")
        array = np.empty(count, dtype=object)
        for i, item in enumerate(data):  # one by one: numpy would take lists of one length for rows
            array[i] = item
    else:
        data = data.encode("latin1") if isinstance(data, str) else data
        if not isinstance(data, bytes) or len(data) != count * dtype.itemsize:
            held = len(data) if isinstance(data, bytes) else 0
            raise _Refused(f"an array that claims {count} x {dtype.itemsize} bytes and holds {held}")
        array = np.frombuffer(data, dtype=dtype, count=count).copy()
    return array.reshape(shape, order=order)


def _ndarray(*_args):
    raise _Refused("an array made without data")


def _from_buffer(buffer, dtype, shape, order="C"):
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise _Refused("an array with a malformed shape")
    return _make_array(shape, dtype.dtype, buffer, order if order == "F" else "C")


def _scalar(dtype, data=b""):
    if not isinstance(dtype, _Dtype) or dtype.dtype.kind == "O":
        raise _Refused("a scalar of another class")
    return _make_array((), dtype.dtype, data, "C")[()]


def _encode(text, encoding="latin1"):
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _Refused(f"a call of the codec {str(encoding)[:40]!r}")
    return text.encode("latin1")


_CONSTRUCTORS = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): lambda: b"",  # how old protocols write empty bytes
    ("builtins", "bytes"): lambda: b"",
    ("collections", "OrderedDict"): lambda: {},
    ("collections", "defaultdict"): lambda *_default: {},
    **{(m, t.__name__): t for m in ("builtins", "__builtin__") for t in (set, frozenset, list, dict, int, float)},
    **{(f"numpy.{m}.multiarray", "_reconstruct"): _Array for m in ("core", "_core")},
    **{(f"numpy.{m}.multiarray", "scalar"): _scalar for m in ("core", "_core")},
    **{(f"numpy.{m}.numeric", "_frombuffer"): _from_buffer for m in ("core", "_core")},
}


def _check_hashed(items):
    """Keys and members must be plain: hashing goes as deep as a tuple is nested, on the stack of the machine."""
    for item in items:
        if not isinstance(item, str | bytes | int | float | np.generic | None):
            raise _Refused(f"a {type(item).__name__} as a key or as a member of a set")


def _plain_keys(load, every):
    """Wraps an instruction that hashes: of what lies on the stack since the mark, each key, or every item."""

    def check_and_load(reader):
        _check_hashed(reader.stack[::every])
        load(reader)

    return check_and_load


def _recall(load):
    """Wraps a look-up in the memo: an array is remembered before its bytes have come, so hand out what it has become."""

    def load_and_replace(reader):
        load(reader)
        reader.stack[-1] = getattr(reader.stack[-1], "built", reader.stack[-1])

    return load_and_replace


class _Reader(pickle._Unpickler):
    dispatch: ClassVar = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _OPCODES}

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data))
        self.bytes_left = min(MAX_GROWTH * len(data) + 2**20, 4 * MAX_BYTES)

    def put(self, value):
        self.bytes_left -= value.nbytes if isinstance(value, np.ndarray) else sys.getsizeof(value)
        if self.bytes_left < 0:
            raise _Refused("far more than its size says: the same bytes over and over")
        self.stack[-1] = value

    def find_class(self, module, name):
        try:
            return _CONSTRUCTORS[module, name]
        except (KeyError, TypeError):
            raise _Refused(f"a call of {str(module)[:60]}.{str(name)[:60]}") from None

    def load_reduce(self):
        arguments = self.stack.pop()
        function = self.stack[-1]
        if function not in _CONSTRUCTORS.values() or not isinstance(arguments, tuple):
            raise _Refused("a call of something that is no array")
        if function in (list, dict, int, float) and arguments:
            raise _Refused(f"a call of {function.__name__} with arguments")
        if function in (set, frozenset):
            _check_hashed(*arguments)
        self.put(function(*arguments))

    def load_build(self):
        state = self.stack.pop()
        stand_in = self.stack[-1]
        if not isinstance(stand_in, _Array | _Dtype):
            raise _Refused("an object with a state of its own")
        stand_in.built = stand_in.build(state)
        self.put(stand_in.built)

    def load_bytes_of_array(self):
        (length,) = struct.unpack("<Q", self.read(8))
        data = self.read(min(length, MAX_BYTES))
        if len(data) != length:
            raise EOFError("bytes are missing")
        self.append(data)

    def load_setitem(self):
        _check_hashed(self.stack[-2:-1])
        pickle._Unpickler.load_setitem(self)

    dispatch[pickle.BYTEARRAY8[0]] = load_bytes_of_array
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    for code, every in ((pickle.SETITEMS, 2), (pickle.DICT, 2), (pickle.ADDITEMS, 1), (pickle.FROZENSET, 1)):
        dispatch[code[0]] = _plain_keys(dispatch[code[0]], every)
    dispatch.update(
        {code[0]: _recall(pickle._Unpickler.dispatch[code[0]]) for code in (pickle.GET, pickle.BINGET, pickle.LONG_BINGET)}
    )


def load_pickle(path: str | Path):
    """Returns what a pickle holds: dicts, lists, tuples, sets, strings, numbers, None and numpy arrays.

    Raises:
        DataError: It is too large, truncated, nested too deeply, or asks for anything but plain data; nothing in it is run.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{size} bytes, more than the {MAX_BYTES} that are read", file=path)
    remedy = "Files must hold numpy arrays and plain containers only"
    try:
        value = _Reader(path.read_bytes()).load()
    except _Refused as error:
        raise DataError(f"refused: the pickle holds {error}", file=path, remedy=remedy) from None
    except KeyError as error:
        raise DataError(f"refused: the pickle holds the instruction {error}", file=path, remedy=remedy) from None
    except (EOFError, IndexError, struct.error, pickle.UnpicklingError) as error:
        raise DataError(f"truncated or no pickle ({str(error) or type(error).__name__})", file=path) from None
    except (ValueError, TypeError, AttributeError, OverflowError, MemoryError, UnicodeError) as error:
        raise DataError(f"malformed pickle ({type(error).__name__}: {str(error)[:120]})", file=path) from None
    _check_plain(value, path)
    return value


def _check_plain(value, path):
    """Walks the containers once, without recursion, and checks depth, number and kinds."""
    seen, stack, count = set(), [(value, 0)], 0
    while stack:
        item, depth = stack.pop()
        count += 1
        if isinstance(item, dict):
            children = list(item.keys()) + list(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            children = item
        elif isinstance(item, np.ndarray) and item.dtype.kind == "O":
            children = item.ravel().tolist()
        elif isinstance(item, int) and item.bit_length() > MAX_INT_BITS:
            raise DataError(f"an integer of {item.bit_length()} bits, more than {MAX_INT_BITS}", file=path)
        elif item is None or isinstance(item, str | bytes | int | float | np.ndarray | np.generic):
            continue
        else:
            raise DataError("refused: the pickle holds an unfinished array or a function", file=path)
        if id(item) in seen:
            continue
        seen.add(id(item))
        if depth >= MAX_DEPTH:
            raise DataError(f"containers nested more than {MAX_DEPTH} deep", file=path)
        if count + len(stack) + len(children) > MAX_ITEMS:
            raise DataError(f"more than {MAX_ITEMS} objects", file=path)
        stack.extend((child, depth + 1) for child in children)
