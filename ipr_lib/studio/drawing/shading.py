"""Bodies and their shadow into a picture: depth buffer, finer rays along edges, light."""

from dataclasses import dataclass

import cv2
import numpy as np

from ..scenes.paint import albedo, display, linear_table
from ..scenes.shapes import surface
from .light import floor_shadow_in_picture, lamp_map, lit_share
from .raycast import camera_view, cast_grid, cast_points, place, scene_box

_GAP_MM = 9.0  # neighbouring pixels further apart than this lie on two sides of an edge
_BLEND_MM = 34.0
_SUBPIXELS = (
    (-0.125, -0.375),
    (0.375, -0.125),
    (-0.375, 0.125),
    (0.125, 0.375),
)  # a grid turned against the pixels


@dataclass(frozen=True)
class Staged:
    """A frame ready to be seen by any camera: its parts, the light and what the key lamp sees."""

    parts: list
    light: object
    lamp: object


def stage_parts(parts, light):
    """Staged from a list of Part and a Light."""
    return Staged(parts, light, lamp_map(parts, light))


def draw(staged, camera, canvas, soften=True):
    """Draw shadow and bodies into a picture, in place.

    Args:
        staged: Staged. camera: Camera.
        canvas: (height, width, 3) uint8, RGB, C-contiguous.
        soften: blur what was drawn a little, as a lens does.
    """
    shadow = floor_shadow_in_picture(staged.lamp, staged.light, camera)
    if shadow is not None:
        factor, (left, top, right, bottom) = shadow
        region = canvas[top:bottom, left:right]
        region[:] = cv2.multiply(region, cv2.merge([factor] * 3), scale=1 / 255)
    view = camera_view(camera)
    placed = place(staged.parts, view)
    bounds = scene_box(placed, 2, view)
    if bounds is None:
        return
    left, top, right, bottom = bounds
    depth, part = cast_grid(placed, view, bounds)
    region = np.ascontiguousarray(canvas[top:bottom, left:right])
    _fill(region, staged, placed, view, bounds, depth, part)
    if soften:
        region = cv2.GaussianBlur(region, (3, 3), 0.45)
    canvas[top:bottom, left:right] = region


def _fill(region, staged, placed, view, bounds, depth, part):
    """Colour the pixels of a box from its depth buffer; pixels on edges from four rays each."""
    left, top, right, _ = bounds
    width = right - left
    edge = _edges(depth, part, _paint_numbers(staged.parts))
    inner = np.flatnonzero((part.ravel() >= 0) & ~edge.ravel())
    edge = np.flatnonzero(edge)
    if not len(edge) and not len(inner):  # too thin for any pixel's centre
        return
    rows, columns = np.divmod(edge, width)
    offsets = np.array(_SUBPIXELS, np.float32)
    fine_u = (left + columns[:, None] + offsets[:, 0]).astype(np.float32).ravel()
    fine_v = (top + rows[:, None] + offsets[:, 1]).astype(np.float32).ravel()
    fine_depth, fine_part = cast_points(placed, view, fine_u, fine_v)
    rows, columns = np.divmod(inner, width)
    openness = _openness(depth, part, view).ravel()
    colour = shade(
        staged,
        view,
        np.concatenate([left + columns.astype(np.float32), fine_u]),
        np.concatenate([top + rows.astype(np.float32), fine_v]),
        np.concatenate([depth.ravel()[inner], fine_depth]),
        np.concatenate([part.ravel()[inner], fine_part]),
        np.concatenate([openness[inner], openness[edge].repeat(len(_SUBPIXELS))]),
    )
    pixels = region.reshape(-1, 3)
    shape = (len(edge), len(_SUBPIXELS), 1)
    missed = fine_part.reshape(shape) < 0  # (E, 4, 1)
    fine = colour[len(inner) :].reshape(len(edge), len(_SUBPIXELS), 3).clip(0, 1)
    mixed = np.where(missed, linear_table()[pixels[edge]][:, None], fine)
    pixels[inner] = display(colour[: len(inner)])
    pixels[edge] = display(mixed.mean(axis=1))


def _paint_numbers(parts):
    """Number of each part's paint, (P + 1,); equal paints share one, the last entry (NOTHING = -1) has its own."""
    numbers = {}
    return np.array(
        [numbers.setdefault(part.paint, len(numbers)) for part in parts] + [-1], np.int16
    )


def _edges(depth, part, paints):
    """Pixels beside a change of depth or of paint, (H, W) bool."""
    paint = paints[part]
    edge = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):  # inf - inf where both are empty
        across = (paint[:, 1:] != paint[:, :-1]) | (
            np.abs(depth[:, 1:] - depth[:, :-1]) > _GAP_MM
        ) & (part[:, 1:] != part[:, :-1])
        down = (paint[1:] != paint[:-1]) | (np.abs(depth[1:] - depth[:-1]) > _GAP_MM) & (
            part[1:] != part[:-1]
        )
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def _openness(depth, part, view):
    """How freely the surroundings light each pixel: less where it lies deeper than its neighbourhood, (H, W)."""
    seen = (part >= 0).astype(np.float32)
    if not seen.any():
        return seen
    depth = np.where(part >= 0, depth, 0)
    px_per_mm = view.f[0] / depth.max()
    openness = np.ones(depth.shape, np.float32)
    for reach, scale in ((32.0, 0.0042), (95.0, 0.0019)):
        size = (2 * max(1, round(reach * px_per_mm)) + 1,) * 2
        around = cv2.blur(depth, size) / (cv2.blur(seen, size) + np.float32(1e-6))
        openness -= ((depth - around) * np.float32(scale)).clip(-0.06, 0.30)
    return openness.clip(0.35, 1.08)


def _blend(normals, u, v, px_per_mm):
    """Average normals with those of nearby pixels, which melts the seams between parts.

    Args:
        normals: (3, N) float32. u, v: (N,) px. px_per_mm: scale of the picture there.
    Returns:
        (3, N) float32 unit normals.
    """
    columns, rows = np.rint(u).astype(np.int32), np.rint(v).astype(np.int32)
    columns -= columns.min()
    rows -= rows.min()
    grid = np.zeros((rows.max() + 1, columns.max() + 1, 3), np.float32)
    grid[rows, columns] = normals.T
    size = (2 * round(_BLEND_MM * px_per_mm / 2) + 1,) * 2
    for _ in range(2):
        grid = cv2.blur(grid, size, borderType=cv2.BORDER_CONSTANT)
    blended = grid[rows, columns].T
    return blended / (np.sqrt((blended * blended).sum(axis=0)) + np.float32(1e-12))


def shade(staged, view, u, v, depth, part, openness):
    """Light of points on parts.

    Args:
        staged: Staged. view: View of a camera.
        u, v: (N,) px. depth: (N,) mm. part: (N,) int16, NOTHING where a ray went past.
        openness: (N,) share of the light from all around.
    Returns:
        (N, 3) float32, linear, 0 where part is NOTHING.
    """
    order = np.argsort(part, kind="stable")
    order = order[np.searchsorted(part[order], 0) :]
    result = np.zeros((len(part), 3), np.float32)
    if not len(order):
        return result
    depth, part = depth[order], part[order]
    rays = np.stack(
        [
            (u[order] - np.float32(view.c[0])) / np.float32(view.f[0]),
            (v[order] - np.float32(view.c[1])) / np.float32(view.f[1]),
            np.ones_like(depth),
        ]
    )
    rays = view.R.T.astype(np.float32) @ rays
    points = rays * depth + view.T.astype(np.float32)[:, None]
    normals, colour = np.empty_like(points), np.empty_like(points)
    shine, glow, blend = np.empty_like(depth), np.empty_like(depth), np.empty(len(depth), bool)
    numbers, starts = np.unique(part, return_index=True)
    for number, start, end in zip(
        numbers.tolist(), starts.tolist(), [*starts[1:].tolist(), len(part)]
    ):
        shape, span = staged.parts[number], slice(start, end)
        normals[:, span] = surface(shape, points[:, span])
        turn = shape.pattern.astype(np.float32)
        layered = bool(shape.paint.layers)
        colour[:, span] = albedo(
            shape.paint, turn[:, :3] @ points[:, span] + turn[:, 3:] if layered else None
        )
        shine[span] = shape.paint.shine
        blend[span] = shape.blend
        glow[span] = shape.paint.glow
    if blend.any():
        normals[:, blend] = _blend(
            normals[:, blend], u[order][blend], v[order][blend], view.f[0] / depth[blend].mean()
        )
    light = staged.light
    key = light.direction.astype(np.float32)
    facing = key @ normals
    lit = lit_share(staged.lamp, points)
    direct = ((facing + np.float32(0.18)) / np.float32(1.18)).clip(0, 1) * (0.12 + 0.88 * lit)
    upward = normals[2] * 0.5 + 0.5
    low = (0.62 + points[2] * np.float32(0.38 / 500)).clip(
        0.62, 1
    )  # the floor hides light close to it
    around = openness[order] * low
    sight = rays * (-1 / np.sqrt((rays * rays).sum(axis=0)))
    toward = np.abs((sight * normals).sum(axis=0))
    half = sight + key[:, None]
    half /= np.sqrt((half * half).sum(axis=0))
    gleam = (half * normals).sum(axis=0).clip(0, 1)
    for _ in range(5):  # to the power of 32
        gleam *= gleam
    gleam *= shine * lit
    out = np.empty_like(colour)
    for k in range(3):
        ambient = (
            light.ground[k]
            + upward * np.float32(light.sky[k] * 1.15 - light.ground[k])
            + 0.10 * toward
        )
        out[k] = colour[k] * (direct * np.float32(light.key[k]) + around * ambient + glow) + gleam
    result[order] = out.T
    return result
