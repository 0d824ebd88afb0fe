"""Numbers that say how good a classification is, from names and probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, Field

from napari_ectkd.errors import DataError
from napari_ectkd.io.picks import NONE, UNKNOWN, UNLABELED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

NO_DETECTIONS = (NONE, UNKNOWN, UNLABELED)
"""Names that claim no particle: never detections, never in a mean over classes."""


class ClassScores(BaseModel, frozen=True, extra="forbid"):
    """How well one class is found; a score without anything to divide by is 0."""

    precision: float = Field(ge=0, le=1, description="right ones of those called so")
    recall: float = Field(ge=0, le=1, description="right ones of those that are so")
    f1: float = Field(ge=0, le=1, description="harmonic mean of precision and recall")
    support: int = Field(ge=0, description="number in the truth")


class Confusion(BaseModel, frozen=True, extra="forbid"):
    """Counts by class; rows are the truth, columns what was said."""

    labels: list[str]
    matrix: list[list[int]]


class Report(BaseModel, frozen=True, extra="forbid"):
    """Accuracy, the scores of each class and the confusions.

    `accuracy` is the share of all counts in the matrix that are on its diagonal;
    `macro_f1` the mean F1 over classes, `none` and `unknown` left out.
    """

    accuracy: float
    macro_f1: float
    classes: dict[str, ClassScores]
    confusion: Confusion

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, as `ectkd test --json` prints them."""
        return self.model_dump(mode="json")


def confusion_matrix(
    truth: Sequence[str] | NDArray,
    predicted: Sequence[str] | NDArray,
    labels: Sequence[str],
) -> NDArray[np.int64]:
    """Count which class was called what.

    Parameters
    ----------
    truth, predicted
        `n` class names each.
    labels
        `k` different names, all that occur and possibly more.

    Returns
    -------
    matrix
        `(k, k)`; row i counts those that are `labels[i]`.

    Raises
    ------
    DataError
        If the lengths differ, or a name is not among the labels.
    """
    if len(truth) != len(predicted):
        raise DataError(f"{len(truth)} true and {len(predicted)} predicted class names")
    index = {name: i for i, name in enumerate(labels)}
    try:
        rows = np.array([index[name] for name in truth], dtype=np.int64)
        columns = np.array([index[name] for name in predicted], dtype=np.int64)
    except KeyError as error:
        raise DataError(
            f"class {error.args[0]!r} is not one of {', '.join(labels)}"
        ) from error
    k = len(labels)
    counts = np.bincount(rows * k + columns, minlength=k * k).astype(np.int64)
    return counts.reshape(k, k)


def class_report(matrix: ArrayLike, labels: Sequence[str]) -> Report:
    """Return accuracy, scores by class and their mean from a confusion matrix.

    Parameters
    ----------
    matrix
        `(k, k)` counts, rows the truth.
    labels
        `k` class names. The mean F1 is over all of them but `none` and `unknown`.

    Raises
    ------
    DataError
        If the matrix does not fit the labels.
    """
    counts = np.array(matrix, dtype=np.int64)
    if counts.shape != (len(labels), len(labels)) or len(set(labels)) != len(labels):
        raise DataError(
            f"a confusion matrix of shape {counts.shape} for {len(set(labels))} classes"
        )
    right, said, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    precision, recall = _ratio(right, said), _ratio(right, support)
    f1 = _ratio(2 * right, said + support)
    is_class = np.array([name not in NO_DETECTIONS for name in labels], dtype=bool)
    return Report(
        accuracy=float(_ratio(right.sum(), counts.sum())),
        macro_f1=float(f1[is_class].mean()) if is_class.any() else 0.0,
        classes={
            name: ClassScores(
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                support=int(support[i]),
            )
            for i, name in enumerate(labels)
        },
        confusion=Confusion(labels=list(labels), matrix=counts.tolist()),
    )


def calibration_error(
    probabilities: ArrayLike, truth_index: ArrayLike, bins: int = 15
) -> float:
    """Return the expected calibration error: how far confidence is from accuracy.

    Parameters
    ----------
    probabilities
        `(n, k)`, each row the probabilities of `k` classes.
    truth_index
        `(n,)` index of the right class.
    bins
        Number of bins of equal width that confidence, from 0 to 1, is sorted into.

    Raises
    ------
    DataError
        If there is nothing to average over, or the shapes do not fit.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017), arXiv:1706.04599, equation 3.
    """
    table = np.array(probabilities, dtype=np.float64)
    truth = np.array(truth_index, dtype=np.int64)
    if table.ndim != 2 or truth.shape != table.shape[:1] or table.size == 0:
        raise DataError(
            f"probabilities of shape {table.shape} for {truth.size} true classes"
        )
    confidence = table.max(axis=1)
    is_right = (table.argmax(axis=1) == truth).astype(np.float64)
    # The bins are open below and closed above, as in the paper.
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=is_right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(table))


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Return part / whole, and 0 where the whole is 0."""
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    ratio = np.zeros(part.shape)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
