"""A student learns from the soft labels of frozen teachers.

`losses` are the distances between two networks' opinions, `objective` makes the
training loop's objective of them, `soft_labels` asks the teachers once, `distill` is
the stage.
"""
