"""How often two models say the same, whether or not it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ectkd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


def agreement(
    student: ArrayLike, teacher: ArrayLike, truth: ArrayLike, classes: Sequence[str]
) -> dict[str, Any]:
    """Return how often a student says what its teacher says, in all and by true class.

    Parameters
    ----------
    student, teacher, truth
        `(n,)` indices into `classes`: what each says, and what is so.
    classes
        `k` names.

    Returns
    -------
    dict
        `share`: of all, and `classes`: by name `n`, `share`, and of the same picks
        `student` and `teacher`, the shares that each gets right. Classes that do not
        occur in the truth are left out.

    Raises
    ------
    DataError
        If the lengths differ or there is nothing to compare.
    """
    ours, theirs, true = (np.asarray(v, np.int64) for v in (student, teacher, truth))
    if not len(ours) == len(theirs) == len(true) > 0:
        raise DataError(
            f"{len(ours)} and {len(theirs)} predictions of {len(true)} picks"
        )
    same = ours == theirs
    by_class = {}
    for index, name in enumerate(classes):
        these = true == index
        if these.any():
            by_class[name] = {
                "n": int(these.sum()),
                "share": float(same[these].mean()),
                "student": float((ours == true)[these].mean()),
                "teacher": float((theirs == true)[these].mean()),
            }
    return {"share": float(same.mean()), "classes": by_class}
