"""Subtomograms and tomograms whose truth is known, since we made them.

`config` holds the settings. `phantoms` and `density` (with `atoms`) say what particles
look like, `poses` turns them, `scenes` puts them into boxes, `tilt` takes away what a
limited tilt range misses, and `noise` knows how much noise an SNR means. `subtomograms`
and `tomogram` are the two simulations. Protein is bright. Only `config` is light to
import.
"""
