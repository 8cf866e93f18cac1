"""Interactive views for notebooks and saved pages, each one Python file beside its one JavaScript file.

They need anywidget (in the `course` extra); `import ipr_lib` does not.
"""

from .skeleton_view import SkeletonView
from .volume_explorer import VolumeExplorer

__all__ = ["SkeletonView", "VolumeExplorer"]
