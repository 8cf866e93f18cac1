"""The seven actors of the built-in capture: proportions as data, each within Human3.6M's joint definition."""

from .performance import Actor

# Stature (m), then lengths in mm of one bone each, sides equal; girth against an average build.
_MEASURES = {
    #     stature   hip  knee  ankle torso neck nose head shoulder elbow wrist girth
    1: (1.70, 132, 443, 438, 234, 256, 117, 114, 149, 279, 249, 1.00),
    5: (1.59, 128, 412, 404, 222, 236, 111, 110, 138, 259, 229, 0.90),
    6: (1.77, 134, 468, 461, 238, 262, 119, 116, 158, 296, 256, 1.06),
    7: (1.88, 138, 506, 496, 246, 274, 122, 119, 160, 318, 276, 0.88),
    8: (1.73, 144, 446, 438, 248, 266, 120, 117, 162, 283, 251, 1.22),
    9: (1.80, 139, 479, 464, 243, 269, 121, 117, 163, 302, 262, 1.12),
    11: (1.65, 124, 433, 424, 226, 243, 114, 112, 145, 272, 239, 0.94),
}
_BONES = ("Hip", "Knee", "Ankle", "Torso", "Neck", "Nose", "Head", "Shoulder", "Elbow", "Wrist")


def _actor(subject, stature, *lengths_and_girth):
    """One row of the table as an Actor; hand and foot follow the stature."""
    *lengths, girth = lengths_and_girth
    foot = 152.0 * stature
    return Actor(
        subject=subject,
        bone_mm=dict(zip(_BONES, map(float, lengths), strict=True)),
        hand_mm=107.0 * stature,
        foot_mm=(46.0 * stature, 0.78 * foot, 0.22 * foot),
        girth=girth,
    )


ACTORS = {subject: _actor(subject, *row) for subject, row in _MEASURES.items()}
