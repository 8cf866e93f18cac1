"""Damage for the tests of readers: truncations and byte flips, the same for the same seed."""

import numpy as np


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
        yield f"seed {seed}, case {i}: {length} bytes changed at {at} of {len(data)}", bytes(damaged)
