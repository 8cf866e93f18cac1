"""The built-in capture: a small studio that writes the prepared Human3.6M layout.

It serves everyone who has no licence for the real data yet. Others use only the names below. To read it, go from a
person to an image:

acting      how a body moves: actors, motion, posture, footwork, gestures, performance, staging
actions     what the actors do: the fifteen actions of Human3.6M; `plays` puts them together
scenes      what it looks like: shapes, paint, looks, heads, props, body, scenery
drawing     how it is drawn: raycast, light, shading, room, render
capture     the four cameras, and writing a capture
own_motion  motion of one's own, from BVH files: bvh, grounding, retarget, writing
sheet       everybody doing everything, in one image
"""

from .actions.plays import perform
from .capture import MANIFEST, studio_cameras, write_capture
from .drawing.light import studio_light
from .drawing.render import add_noise, picture, render_frame, stage
from .own_motion.writing import write_motion
from .scenes.looks import outfit
from .sheet import contact_sheet, write_sheet

__all__ = [
    "MANIFEST",
    "add_noise",
    "contact_sheet",
    "outfit",
    "perform",
    "picture",
    "render_frame",
    "stage",
    "studio_cameras",
    "studio_light",
    "write_capture",
    "write_motion",
    "write_sheet",
]
