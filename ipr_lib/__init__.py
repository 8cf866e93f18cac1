"""Integral human pose: one picture in, expected 3D joints out. The modules' reading order is the course's order."""

__version__ = "0.1.0"
