"""The One-Euro filter: steady where things stand still, quick where they move.

Casiez, Roussel, Vogel. 1€ Filter. CHI 2012. Taught in notebooks/12_your_own_pictures.ipynb.
"""

import numpy as np

from ..files import InputError


def one_euro(values, times, min_cutoff=1.0, beta=0.01, speed_cutoff=1.0):
    """Smooth a time series, each number by itself, with a cutoff that rises with its own speed.

    A low-pass of cutoff c keeps the share 1 / (1 + 2 pi c dt) of the old value; here c = min_cutoff + beta * |speed|. The
    speed is low-passed too, at speed_cutoff. Causal: a value depends on what came before it alone.

    Args:
        values: (F, ...), any unit, say mm; NaN where nothing was seen. The filter starts anew after such a gap.
        times: (F,) seconds, rising.
        min_cutoff: Hz; smaller is smoother at rest.
        beta: Hz per unit of speed (values' unit a second); larger lags less in motion.
        speed_cutoff: Hz.
    Returns:
        (F, ...) float64.
    Raises:
        InputError: times do not rise, or are not as many as values.
    """
    values, times = np.asarray(values, float), np.asarray(times, float)
    if times.shape != values.shape[:1]:
        raise InputError(
            f"times: expected one for each of {len(values)} frames, got an array of shape {times.shape}"
        )
    steps = np.diff(times)
    if not (steps > 0).all():
        raise InputError(
            f"times: expected rising seconds, but number {int(np.argmin(steps > 0)) + 1} does not rise"
        )
    smooth, speed = values.copy(), np.zeros(values.shape[1:])
    for i, dt in enumerate(steps, start=1):
        known = np.isfinite(smooth[i - 1])
        rate = np.where(known, (values[i] - smooth[i - 1]) / dt, 0.0)
        speed = np.where(known, _blend(speed, rate, speed_cutoff, dt), 0.0)
        blended = _blend(smooth[i - 1], values[i], min_cutoff + beta * np.abs(speed), dt)
        smooth[i] = np.where(known, blended, values[i])
        speed = np.where(np.isfinite(speed), speed, 0.0)
    return smooth


def _blend(old, new, cutoff, dt):
    """First-order low-pass: the old value's share is 1 / (1 + 2 pi cutoff dt)."""
    share = 1 / (1 + 2 * np.pi * cutoff * dt)
    return share * old + (1 - share) * new
