"""Class names of picks as numbers: filters compare 100,000 numbers, not words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_ectkd.gui.remembered import remembered
from napari_ectkd.io.picks import UNKNOWN, UNLABELED

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from numpy.typing import NDArray

    from napari_ectkd.io.picks import Picks

UNLABELED_CODE, UNKNOWN_CODE = 0, 1


@dataclass(frozen=True, eq=False)
class Named:
    """A name for each pick.

    Attributes
    ----------
    names
        Each name once; the first two are that of an unlabeled and an unknown pick.
    codes
        `(n,)` which of the names.
    """

    names: tuple[str, ...]
    codes: NDArray[np.intp]

    @property
    def words(self) -> NDArray[np.object_]:
        """`(n,)` the names themselves."""
        words: NDArray[np.object_] = np.array(self.names, dtype=object)[self.codes]
        return words

    def is_in(self, names: Container[str]) -> NDArray[np.bool_]:
        """Return `(n,)` whether the name is one of these."""
        claim: NDArray[np.bool_] = self.each(lambda name: name in names).astype(bool)
        return claim

    def each(self, value: Callable[[str], object]) -> NDArray:
        """Return `(n, ...)` the value of each pick's name, asked for once a name."""
        return np.array([value(name) for name in self.names])[self.codes]

    def counts(self, where: NDArray[np.bool_] | None = None) -> Counter[str]:
        """Return how many picks have each name, of all or of those chosen."""
        codes = self.codes if where is None else self.codes[where]
        found = np.bincount(codes, minlength=len(self.names)).tolist()
        return Counter({n: c for n, c in zip(self.names, found, strict=True) if c})


@dataclass(frozen=True, eq=False)
class ClassCodes:
    """Labels and predictions of picks, in codes of the same names."""

    label: Named
    prediction: Named

    @property
    def is_labeled(self) -> NDArray[np.bool_]:
        """`(n,)` whether somebody gave the pick a label."""
        return self.label.codes != UNLABELED_CODE

    @property
    def is_predicted(self) -> NDArray[np.bool_]:
        """`(n,)` whether a model said something of the pick."""
        return self.prediction.codes != UNLABELED_CODE


@remembered
def class_codes(picks: Picks) -> ClassCodes:
    """Return the codes of labels and predictions."""
    n = len(picks)
    special = np.array([UNLABELED, UNKNOWN], dtype=object)
    every = np.concatenate([special, picks.label, picks.prediction])
    codes, found = pd.factorize(every)
    names = tuple(str(name) for name in found)
    return ClassCodes(Named(names, codes[2 : 2 + n]), Named(names, codes[2 + n :]))
