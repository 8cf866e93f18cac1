"""Integral human pose: one image in, expected 3D joints out.

A folder imports only from those above it in this list. To read the library, follow the course; the numbers are those
of the notebooks that teach a folder, and the docstring of its `__init__` says in which order to read it.

files, progress, parallel   paths and complete files, progress and minutes of long work, worker processes
geometry      01        skeletons, cameras, crops and augmentation
data          02 – 04   the prepared layout, images, people in 2D, crop stores, batches
prepare       02, 03    Human3.6M, MPII and COCO as their owners hand them out
studio        02        the built-in capture
integral      05 – 07   the grid, the expectation, the losses, the methods
network       07        backbone and head
training      09        the step and the loop, checkpoints, logs, several processes
evaluation    10        predictions, metrics, published networks, tables
config        00        profiles, and what of one run is chosen
run           09        one run of a Config
experiment    08        the controlled comparison
views         all       plots and interactive views
inference     12        images and videos of one's own
course        11        the main job, notebooks, exercises, the reference network
options, __main__       the command line
"""

__version__ = "1.0.0"  # also in pyproject.toml, CITATION.cff and CHANGELOG.md
