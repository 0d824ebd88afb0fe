"""Picks: positions in tomograms, and what people and models say is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype

from napari_ectkd.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

NONE = "none"
"""A trained class: no particle here. Never a detection."""
UNKNOWN = "unknown"
"""A prediction below its threshold."""
UNLABELED = ""
"""Nobody said, or predicted, anything."""


@dataclass(frozen=True, eq=False)
class Picks:
    """Positions with their labels and predictions; the one thing stages hand on.

    A label is what a person (or a simulation) said, a prediction what a model said: a
    prediction never overwrites a label. Make one with `Picks.create`.

    Attributes
    ----------
    positions
        `(n, 3)` float64, Å, zyx, the center of voxel (0, 0, 0) at the origin.
    tomogram
        `(n,)` names of tomograms.
    label, prediction
        `(n,)` class names, empty where nothing was said.
    confidence
        `(n,)` probability of the predicted class; NaN without a prediction.
    probabilities
        One column a class, one row a pick; no columns without predictions.
    angles
        `(n, 3)` RELION's rot, tilt, psi in degrees; NaN where not known.
    pick_id
        `(n,)` int64, unique; follows a pick through files, layers and predictions.
    foreign
        Columns of other programs, one row a pick, carried along untouched.
    """

    positions: NDArray[np.float64]
    tomogram: NDArray[np.object_]
    label: NDArray[np.object_]
    prediction: NDArray[np.object_]
    confidence: NDArray[np.float64]
    probabilities: pd.DataFrame
    angles: NDArray[np.float64]
    pick_id: NDArray[np.int64]
    foreign: pd.DataFrame

    @classmethod
    def create(
        cls,
        positions: ArrayLike,
        tomogram: str | Sequence[str] | NDArray = "",
        *,
        label: str | Sequence[str] | NDArray = UNLABELED,
        prediction: str | Sequence[str] | NDArray = UNLABELED,
        confidence: ArrayLike | None = None,
        probabilities: pd.DataFrame | None = None,
        angles: ArrayLike | None = None,
        pick_id: ArrayLike | None = None,
        foreign: pd.DataFrame | None = None,
    ) -> Picks:
        """Return picks, with one value for all or one a pick; positions as above.

        Raises
        ------
        DataError
            If the lengths differ, a position is not finite or an id comes twice.
        """
        array = np.array(positions, dtype=np.float64).reshape(-1, 3)
        n = len(array)
        if not np.isfinite(array).all():
            raise DataError("a pick has a position that is NaN or infinite")
        numbers = np.arange(1, n + 1) if pick_id is None else np.array(pick_id)
        if not pd.Index(numbers).is_unique:  # np.unique takes a hundred times as long
            raise DataError("two picks have the same id")
        picks = cls(
            positions=array,
            tomogram=_names(tomogram, n),
            label=_names(label, n),
            prediction=_names(prediction, n),
            confidence=_floats(confidence, (n,)),
            probabilities=_table(probabilities, n),
            angles=_floats(angles, (n, 3)),
            pick_id=numbers.astype(np.int64),
            foreign=_table(foreign, n),
        )
        for name, column in vars(picks).items():
            if len(column) != n:
                raise DataError(f"{len(column)} values of {name} for {n} picks")
        return picks

    @classmethod
    def empty(cls) -> Picks:
        """Return no picks."""
        return cls.create(np.zeros((0, 3)))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Picks:
        """Return the picks of a slice, a mask or an array of indices."""
        table = {"probabilities", "foreign"}
        return replace(
            self,
            **{
                name: column.iloc[index].reset_index(drop=True)
                if name in table
                else column[index]
                for name, column in vars(self).items()
            },
        )

    @property
    def class_name(self) -> NDArray[np.object_]:
        """`(n,)` what each pick counts as: its label, else its prediction."""
        chosen: NDArray[np.object_] = np.where(
            self.label == UNLABELED, self.prediction, self.label
        )
        return chosen

    @property
    def is_labeled(self) -> NDArray[np.bool_]:
        """`(n,)` whether somebody gave the pick a label."""
        claim: NDArray[np.bool_] = self.label != UNLABELED
        return claim

    def with_labels(self, label: str | Sequence[str] | NDArray) -> Picks:
        """Return the picks with other labels, one for all or one a pick."""
        return replace(self, label=_names(label, len(self)))

    def with_predictions(self, probabilities: pd.DataFrame) -> Picks:
        """Return the picks with the prediction that class probabilities imply.

        Parameters
        ----------
        probabilities
            `(n, k)`, one column a class; a row of NaN leaves a pick without one.
        """
        table = probabilities.reset_index(drop=True)
        values = table.to_numpy(dtype=np.float64)
        known = np.isfinite(values).all(axis=1)
        prediction = np.full(len(self), UNLABELED, dtype=object)
        confidence = np.full(len(self), np.nan)
        if known.any():
            names = np.array(table.columns, dtype=object)
            prediction[known] = names[values[known].argmax(axis=1)]
            confidence[known] = values[known].max(axis=1)
        return replace(
            self, prediction=prediction, confidence=confidence, probabilities=table
        )

    def in_tomogram(self, name: str) -> Picks:
        """Return the picks of one tomogram."""
        return self[self.tomogram == name]


def join_picks(parts: Sequence[Picks]) -> Picks:
    """Return the picks of all parts; those with an id that is taken get a new one."""
    if not parts:
        return Picks.empty()
    pick_id = np.concatenate([part.pick_id for part in parts])
    _, first = np.unique(pick_id, return_index=True)
    is_taken = np.ones(len(pick_id), dtype=bool)
    is_taken[first] = False
    pick_id[is_taken] = pick_id.max(initial=0) + 1 + np.arange(is_taken.sum())
    return Picks.create(
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.tomogram for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        prediction=np.concatenate([part.prediction for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        probabilities=pd.concat(
            [part.probabilities for part in parts], ignore_index=True
        ),
        angles=np.concatenate([part.angles for part in parts]),
        pick_id=pick_id,
        foreign=_joined_columns([part.foreign for part in parts]),
    )


def _joined_columns(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return tables one below the other; a gap makes no decimals of whole numbers."""
    joined = pd.concat([table.astype(object) for table in tables], ignore_index=True)
    whole = [name for name in joined if joined[name].notna().all()]
    joined[whole] = joined[whole].infer_objects()
    return joined


def _names(value: str | Sequence[str] | NDArray, n: int) -> NDArray[np.object_]:
    if isinstance(value, str):
        return np.full(n, value, dtype=object)
    # Those of other picks, in the window by the hundred thousand.
    if isinstance(value, np.ndarray) and infer_dtype(value, skipna=False) == "string":
        return np.array(value, dtype=object)
    return np.array([str(v) for v in value], dtype=object)


def _floats(value: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if value is None:
        return np.full(shape, np.nan)
    return np.array(value, dtype=np.float64)


def _table(value: pd.DataFrame | None, n: int) -> pd.DataFrame:
    if value is None:
        return pd.DataFrame(index=pd.RangeIndex(n))
    return value.reset_index(drop=True)
