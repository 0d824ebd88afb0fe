"""What a person said of the hits of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_ectkd.errors import DataError
from napari_ectkd.io.picks import NONE, UNLABELED, Picks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ectkd.models.checkpoint import CheckpointInfo


@dataclass(frozen=True)
class Corrections:
    """Hits with what they really are as their label.

    Attributes
    ----------
    picks
        Each with a label: its class, or `none` where nothing is.
    accepted, relabeled, rejected
        How many hits were what the model took them for, were another class, or nothing.
    not_used
        Hits that nobody looked at.
    """

    picks: Picks
    accepted: int
    relabeled: int
    rejected: int
    not_used: int

    def counts(self) -> dict[str, int]:
        """Return the four numbers by name."""
        return {
            "accepted": self.accepted,
            "relabeled": self.relabeled,
            "rejected": self.rejected,
            "not_used": self.not_used,
        }


def corrections_of(
    hits: Picks, info: CheckpointInfo, accept_above: float | None = None
) -> Corrections:
    """Return what the labels of hits say of their predictions.

    A label equal to the prediction accepts it, another class corrects it, `none`
    rejects it. A hit without a label was not looked at.

    Parameters
    ----------
    hits
        From one or several sweeps.
    info
        The classes that the model knows.
    accept_above
        Confidence from which hits without a label count as accepted.

    Raises
    ------
    DataError
        If nothing was looked at, or a label is no class of the model's.
    """
    label = hits.label.copy()
    if accept_above is not None:
        sure = (label == UNLABELED) & (hits.confidence >= accept_above)
        sure &= np.isin(hits.prediction.astype(str), info.classes)
        label[sure] = hits.prediction[sure]
    used = label != UNLABELED
    if not used.any():
        raise DataError(
            f"none of the {len(hits)} hits has a label; accept some (their label is "
            f"their prediction), correct some, or reject some (label {NONE})"
        )
    known = {*info.classes, NONE}
    strange = sorted(set(label[used].astype(str)) - known)
    if strange:
        raise DataError(
            f"hits are labeled {', '.join(strange)}, which the model does not know: it "
            f"knows {', '.join(_sorted(known))}; for a new class train anew "
            "(ectkd train, with old data and these hits)"
        )
    picks = hits[used]
    picks.label[:] = label[used]
    rejected = picks.label == NONE
    accepted = (picks.label == picks.prediction) & ~rejected
    return Corrections(
        picks,
        accepted=int(accepted.sum()),
        relabeled=int((~accepted & ~rejected).sum()),
        rejected=int(rejected.sum()),
        not_used=int((~used).sum()),
    )


def _sorted(names: set[str]) -> Sequence[str]:
    return [*sorted(names - {NONE}), NONE]
