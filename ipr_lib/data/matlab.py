"""MATLAB v5 files, read by scipy after a check: scipy crashes on some damaged files."""

import io
import struct
import zlib
from collections.abc import Iterable
from math import prod
from pathlib import Path

import scipy.io

from ..files import InputError, check_unfolded

# Numbers of the format's data types and array classes (MAT-File Level 5).
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_NAME, _DIMENSIONS, _FLAGS, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMERIC, _COMPLEX = range(6, 16), 0x800


def load_mat(path: Path | str, names: Iterable[str], simplify_cells: bool = False) -> dict:
    """Read variables of a MATLAB v5 file.

    Compressed variables, as MATLAB writes them, carry a checksum, which is verified. Others must be arrays of numbers,
    whose structure is checked, so that damage ends in an error and not in a crash of scipy.

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
        _check_file(path, data)
        return scipy.io.loadmat(
            io.BytesIO(data), variable_names=list(names), simplify_cells=simplify_cells
        )
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except InputError:  # it would fill the memory
        raise
    except Exception as error:  # scipy raises a dozen kinds; each means the same to a user
        raise InputError(f"{path} is damaged, truncated or no MATLAB v5 file ({error})") from error


def _check_file(path, data):
    """ValueError where the bytes cannot be a whole v5 file that scipy reads without harm."""
    order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(data[124:128])
    if order is None or 0 in data[:4]:
        raise ValueError("no header of version 5")
    for kind, variable in _elements(data[128:], order):
        if kind == _COMPRESSED:
            _check_compressed(path, variable)
        elif kind == _MATRIX:
            _check_numbers(variable, order)
        else:
            raise ValueError(f"data type {kind} where a variable was expected")


def _check_compressed(path, variable):
    """An error where a compressed variable does not agree with its checksum, or would fill the memory."""
    unpacker = zlib.decompressobj()
    n_bytes = 0
    while not unpacker.eof:
        block = unpacker.decompress(variable, 1 << 24)
        variable = unpacker.unconsumed_tail
        n_bytes += len(block)
        check_unfolded(path, n_bytes)
        if not block and not variable and not unpacker.eof:
            raise ValueError("a compressed variable is cut short")


def _check_numbers(variable, order):
    """ValueError unless an uncompressed variable is an array of real numbers, and all of them are there."""
    elements = _elements(variable, order)
    kinds = [kind for kind, _ in elements]
    if len(kinds) != 4 or kinds[:3] != [_FLAGS, _DIMENSIONS, _NAME]:
        raise ValueError("a variable that is neither compressed nor an array of numbers")
    flags = struct.unpack_from(order + "I", elements[0][1])[0]
    dims = struct.unpack(f"{order}{len(elements[1][1]) // 4}i", elements[1][1])
    if flags & 0xFF not in _NUMERIC or flags & _COMPLEX:
        raise ValueError("a variable that is neither compressed nor an array of real numbers")
    n_bytes = prod(dims) * _ITEM_BYTES.get(kinds[3], 0)
    if not 2 <= len(dims) <= 32 or min(dims) < 0 or len(elements[3][1]) != n_bytes:
        raise ValueError("an array whose numbers are not all there")


def _elements(data, order):
    """(type, content) of the elements that follow each other in `data`."""
    elements = []
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        start = at + 8
        following = start + size
        if kind >> 16:  # up to four bytes that lie in the tag itself
            kind, size, start, following = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        elif kind != _COMPRESSED:
            following += -size % 8
        if start + size > min(following, len(data)):
            raise ValueError("an element is cut short")
        elements.append((kind, data[start : start + size]))
        at = following
    return elements
