"""Classify cryo-ET subtomograms in napari: label a few, train, distill, classify.

The shape of the package is the shape of the work, and data flows one way:

`io` (tomograms, picks, their files) → `simulation` (subtomograms and tomograms with
truth) → `picking` (a tomogram to picks) → `dataset` (picks to batches) → `models`
(networks by name, checkpoints) → `evaluation` (picks against a truth) → `training` (a
model and batches to a checkpoint) → `distillation` (a teacher and a student to a
checkpoint) → `prediction` (a checkpoint and picks to classed picks).

`cli` and `gui` sit on top and may import all of these; nothing imports them, and `gui`
alone may import napari or Qt. `errors`, `events`, `devices`, `jobs` and `runs` serve
everyone. Importing this package loads none of it.
"""
