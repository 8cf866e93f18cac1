"""The best rotations of many poses at once. Taught in notebooks/10_evaluation.ipynb; its speed: benchmarks/evaluation.py."""

import numpy as np


def best_rotations(moments):
    """Rotations R that turn poses p onto poses t best, by squared distance: they maximise tr(R^T S) with S = p^T t.

    S = R H for a symmetric H whose trace is the largest root of a polynomial of degree four in the trace (Horn 1987); S
    follows Cayley and Hamilton through H, which gives R without an eigenvector:

        R = ((h^2 - i) S + h cof S - S S^T S) / (h i - det S),   h = tr H,  i = (h^2 - |S|^2) / 2.

    The denominator is the product of the sums of two singular values each, the smallest with the sign of det S; where it is
    next to nothing (mirrored poses, points in a line) the singular values themselves decide (Kabsch 1976).

    Args:
        moments: S, (N, 3, 3), sums of products of centred coordinates: p's along rows, t's along columns; finite.
    Returns:
        R (N, 3, 3), determinant 1, for p @ R; traces tr(R^T S), (N,).
    """
    S = np.asarray(moments, float)
    size = np.sqrt(np.einsum("nij,nij->n", S, S))
    S = S / np.where(size > 0, size, 1)[:, None, None]
    cofactors = _cofactors(S)
    det = (S[:, 0] * cofactors[:, 0]).sum(1)
    # With |S| = 1: h^4 - 2 h^2 - 8 det h + (1 - 4 |cof S|^2) = 0. All four roots are real, none above sqrt 3.
    last = 1 - 4 * np.einsum("nij,nij->n", cofactors, cofactors)
    h, step = np.full(len(S), np.sqrt(3)), np.zeros(len(S))
    with np.errstate(divide="ignore", invalid="ignore"):  # double roots; they are found below
        for _ in range(16):
            step = (((h * h - 2) * h - 8 * det) * h + last) / (4 * ((h * h - 1) * h - 2 * det))
            h = h - step
            if (np.abs(step) < 1e-14).all():
                break
        i = (h * h - 1) / 2
        below = h * i - det
        R = (
            (h * h - i)[:, None, None] * S
            + h[:, None, None] * cofactors
            - S @ S.transpose(0, 2, 1) @ S
        ) / below[:, None, None]
    doubtful = np.flatnonzero(~((below > 1e-3) & (np.abs(step) < 1e-13) & (size > 0)))
    if len(doubtful):
        R[doubtful], h[doubtful] = _by_singular_values(S[doubtful])
    return R, h * size


def _cofactors(S):
    """(N, 3, 3) -> (N, 3, 3): each row is the cross product of the other two."""
    result = np.empty_like(S)
    for row in range(3):
        a, b = S[:, (row + 1) % 3], S[:, (row + 2) % 3]
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            result[:, row, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return result


def _by_singular_values(S):
    """As `best_rotations`, by Kabsch's way: for any S, also of rank 1 or 0."""
    U, singular, Vt = np.linalg.svd(S)
    sign = np.sign(np.linalg.det(U @ Vt))
    U[..., 2] *= sign[:, None]
    return U @ Vt, singular[:, 0] + singular[:, 1] + sign * singular[:, 2]
