"""From labeled picks, or folders of subtomograms, to batches.

`crop` cuts subtomograms out of tomograms, `normalize` scales them, `sources` opens a
data set of any form, `split` keeps some for validation, `augment` varies a batch.
"""
