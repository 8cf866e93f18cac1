"""The built-in capture: a small studio that writes the prepared Human3.6M layout, for everyone who has no licence yet.

In reading order, from a person to a picture:

who moves, and how: actors, motion, posture, footwork, gestures, performance, staging
what they do: actions_standing, actions_handling, actions_walking, seated_legs, actions_seated, actions
what it looks like: shapes, looks, paint, heads, props, body
how it is drawn: raycast, light, shading, scenery, room, render, sheet
what is written: studio
motion of one's own: bvh, grounding, retarget, own_motion
"""
