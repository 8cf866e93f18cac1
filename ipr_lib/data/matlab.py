"""MATLAB v5 files, read by scipy after their structure has been checked: scipy crashes on some damaged files."""

import io
import struct
import zlib
from collections.abc import Iterable
from math import prod
from pathlib import Path

import scipy.io

from ..files import InputError

# Numbers of the format's data types and array classes (MAT-File Level 5).
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)


def load_mat(path: Path | str, names: Iterable[str], simplify_cells: bool = False) -> dict:
    """Read variables of a MATLAB v5 file.

    Compressed variables carry a checksum, which is verified. Of others, at least the structure is checked, so that
    damage ends in an error and not in a crash or in memory without bounds.

    Args:
        path: the file.
        names: variables to read; the file may lack some.
        simplify_cells: give structs as dicts, and arrays of structs as lists of them.
    Returns:
        dict of name -> array, as `scipy.io.loadmat` gives.
    Raises:
        InputError: the file is missing, is no MATLAB v5 file, or is damaged; the message ends after the reason, so that a
            caller can say what to do.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        _check_file(data)
        return scipy.io.loadmat(
            io.BytesIO(data), variable_names=list(names), simplify_cells=simplify_cells
        )
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except Exception as error:  # scipy raises a dozen kinds; each means the same to a user
        raise InputError(f"{path} is damaged, truncated or no MATLAB v5 file ({error})") from error


def _check_file(data):
    """ValueError where the bytes cannot be a whole v5 file with cells, structs, text and numbers in it."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or 0 in data[:4] or struct.unpack_from(order + "H", data, 124)[0] != 0x0100:
        raise ValueError("no header of version 5")
    at = 128
    while at < len(data):
        kind, start, end, at = _tag(data, at, len(data), order, padded=False)
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            stream.decompress(data[start:end])
            if not stream.eof:
                raise ValueError("a compressed variable is cut short")
        elif kind == _MATRIX:
            _check_matrix(data, start, end, order)
        else:
            raise ValueError(f"data type {kind} where a variable was expected")


def _tag(data, at, limit, order, padded=True):
    """(type, start of the content, its end, start of the next element) of the element at `at`."""
    if at + 8 > limit:
        raise ValueError("an element is cut short")
    kind, size = struct.unpack_from(order + "II", data, at)
    if kind >> 16:  # up to four bytes that lie in the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        start, following = at + 4, at + 8
        if size > 4:
            raise ValueError(f"a short element of {size} bytes")
    else:
        start, following = at + 8, at + 8 + (-(-size // 8) * 8 if padded else size)
    if start + size > limit or (kind not in _ITEM_BYTES and kind not in (_MATRIX, _COMPRESSED)):
        raise ValueError(f"an element of type {kind} and {size} bytes does not fit")
    return kind, start, start + size, min(following, limit)


def _check_matrix(data, start, end, order):
    """Check one array and all that it holds; an array of 0 bytes is MATLAB's []."""
    if start == end:
        return
    flags, at, stop, following = _tag(data, start, end, order)
    dims_kind, dims_at, dims_end, name_tag = _tag(data, following, end, order)
    if (
        flags != 6
        or stop - at != 8
        or dims_kind != 5
        or not 8 <= dims_end - dims_at <= 128
        or (dims_end - dims_at) % 4
    ):
        raise ValueError("an array without flags and dimensions")
    array_class = struct.unpack_from(order + "I", data, at)[0] & 0xFF
    is_complex = struct.unpack_from(order + "I", data, at)[0] & 0x800
    dims = struct.unpack_from(f"{order}{(dims_end - dims_at) // 4}i", data, dims_at)
    name_kind, _, _, at = _tag(data, name_tag, end, order)
    if min(dims) < 0 or name_kind != 1:
        raise ValueError("an array with a negative dimension or without a name")
    count = prod(dims)
    if array_class in (_CELL, _STRUCT):
        if array_class == _STRUCT:
            kind, length_at, length_end, names_tag = _tag(data, at, end, order)
            names_kind, names_at, names_end, at = _tag(data, names_tag, end, order)
            length = (
                struct.unpack_from(order + "i", data, length_at)[0]
                if length_end - length_at == 4
                else 0
            )
            if kind != 5 or names_kind != 1 or length < 1 or (names_end - names_at) % length:
                raise ValueError("a struct without field names")
            fields = (names_end - names_at) // length
            if not fields and count > 1:
                raise ValueError("an array of structs without fields")
            count *= fields
        if count > (end - at) // 8:
            raise ValueError(f"{count} elements do not fit into {end - at} bytes")
        for _ in range(count):
            kind, inner, inner_end, at = _tag(data, at, end, order)
            if kind != _MATRIX:
                raise ValueError("an element is no array")
            _check_matrix(data, inner, inner_end, order)
    elif array_class == _CHAR or array_class in _NUMERIC:
        for _ in range(2 if is_complex and array_class != _CHAR else 1):
            kind, inner, inner_end, at = _tag(data, at, end, order)
            held = inner_end - inner
            whole = kind in _ITEM_BYTES and held % _ITEM_BYTES[kind] == 0
            # Text in UTF-8 takes one to four bytes a character.
            fits = (
                count <= held
                if array_class == _CHAR
                else whole and held // _ITEM_BYTES[kind] == count
            )
            if not (whole and fits):
                raise ValueError(f"{held} bytes of data do not make {count} elements")
    else:
        raise ValueError(f"an array of class {array_class}")
