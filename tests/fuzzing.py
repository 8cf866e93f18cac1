"""Damage for the tests of readers: truncations and byte flips, the same for the same seed."""

from collections import Counter

import numpy as np

from ipr_lib.files import InputError


def corruptions(data, n, seed):
    """Damaged copies of a file.

    Args:
        data: bytes of the whole file.
        n: how many. seed: of the choice; print it, so that a failure can be had again.
    Yields:
        (description, damaged bytes): in turn a truncation, one changed byte, and a burst of up to 16 changed bytes.
    """
    rng = np.random.default_rng(seed)
    for i in range(n):
        at = int(rng.integers(len(data)))
        if i % 3 == 0:
            yield f"seed {seed}, case {i}: truncated to {at} of {len(data)} bytes", data[:at]
            continue
        length = 1 if i % 3 == 1 else int(rng.integers(2, 17))
        damaged = bytearray(data)
        for j in range(at, min(at + length, len(data))):
            damaged[j] ^= int(rng.integers(1, 256))
        yield (
            f"seed {seed}, case {i}: {length} bytes changed at {at} of {len(data)}",
            bytes(damaged),
        )


def judge(damaged_files, path, read, same):
    """Put each damaged version in the place of `path`; `read` has to raise InputError or to give what is the `same`."""
    outcomes, whole = Counter(), path.read_bytes()
    try:
        for description, data in damaged_files:
            path.write_bytes(data)
            try:
                result = read()
            except InputError as error:
                assert str(error).count("\n") == 0, description
                outcomes["refused"] += 1
            except BaseException as error:
                raise AssertionError(f"{path.name}, {description}: {error!r}") from error
            else:
                assert same(result), f"{path.name}, {description}: accepted with another content"
                outcomes["right"] += 1
    finally:
        path.write_bytes(whole)
    print(path.name, dict(outcomes))
    return outcomes
