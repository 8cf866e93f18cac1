"""Integral human pose: one picture in, expected 3D joints out.

To read the library, follow the course. Modules by the notebook that teaches or first needs them, in reading order:

00: files, config
01: skeleton, camera
02: matlab, layout, parallel, progress, prepare.raw, prepare.human36m, prepare.check; capture, in its own order
03: people, prepare.mpii, prepare.coco, prepare.people, mixing
04: pictures, transforms, store, datasets
05: heatmaps
06: integral, integral_triton
07: models, losses
08: methods, experiment
09: precision, optimizers, microbatches, distributed, checkpoints, training_log, training_loop, engine, cost
10: evaluation (metrics, prediction, tables, published)
11: evaluation.report, timing, exercises, notebooks, pipeline, scoring, thread
12: own_pictures, person_boxes, predict, smoothing, predict_files, reference
throughout: plots, widgets.view, widgets.skeleton_figure, widgets.skeleton_view, widgets.volume_explorer, widgets.curve_explorer, __main__
"""

__version__ = "0.1.0"
