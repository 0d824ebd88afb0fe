"""Subtomograms and tomograms whose truth is known, since we made them.

`config` (with `imaging_config`) holds the settings. `phantoms` and `density` (with
`atoms`) say what particles look like, `poses` turns them, `scenes` puts them into
boxes, `imaging` says what is seen of them, and `noise` knows how much noise an SNR
means. `subtomograms` and `tomogram` are the two simulations. Protein is bright. Only
the configs are light to import.

Imaging is a missing wedge (`tilt`) or a tilt series and its reconstruction
(`projection_imaging`, of whole tomograms `tomogram_imaging`). That is geometry
(`projections`), which tilts are taken when (`tilt_scheme`), and what an image shows
(`tilt_images`, with `ctf`, `dose` and `detector`).
"""
