from pathlib import Path

import numpy as np

from napari_ectkd.prediction.mask import Mask


def test_picks_outside_of_the_tomogram_are_judged_by_its_face():
    voxels = np.zeros((4, 5, 6), np.int8)
    voxels[0] = 1
    mask = Mask(Path("mask.mrc"), voxels)
    places = np.array([[-9, 2, 2], [0.4, -70, 99], [99, 2, 2], [-1, 2, 2]], float)
    assert mask.is_inside(places).tolist() == [True, True, False, True]
