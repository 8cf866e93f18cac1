"""Figures and interactive views, for notebooks and saved pages.

Read `plots` first: functions that draw into matplotlib's Axes. Then read `view`, which holds what
all interactive views share, and `skeleton_view`, `volume_explorer` and `curve_explorer`, each
beside its JavaScript file. The interactive views need anywidget, of the extra `course`; they are
loaded when they are first used, so that a plot does without it.
"""

import importlib

from . import plots

__all__ = ["CurveExplorer", "SkeletonView", "VolumeExplorer", "plots"]

_MODULES = {
    "CurveExplorer": "curve_explorer",
    "SkeletonView": "skeleton_view",
    "VolumeExplorer": "volume_explorer",
}


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f".{_MODULES[name]}", __name__)
    return getattr(module, name)
