"""Tiles of a tomogram worked on by several threads, their memory bounded.

Each thread reads, normalizes and scores a tile of its own: no thread waits for another
after each layer, and while one reads the others compute. Where a tile is too large for
the memory it is halved, and so are all that wait.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from napari_ectkd.devices.memory import free_memory, is_out_of_memory
from napari_ectkd.errors import DataError
from napari_ectkd.prediction.grid import halved, size

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Future

    from napari_ectkd.prediction.grid import Spans

_Result = TypeVar("_Result")

MOST_WORKERS = 8
"""Threads with a tile each; with more cores each of them computes on several."""
FEWEST_POSITIONS = 512
"""In a tile that is not halved any more for want of memory."""


def n_workers(device: torch.device) -> int:
    """Return how many tiles are worked on at once; for CUDA one reads, one computes.

    Apple's GPUs take work from one thread alone: from two, torch ends the process
    (pytorch/pytorch#197805).
    """
    if device.type == "cpu":
        return min(torch.get_num_threads(), MOST_WORKERS)
    return 2 if device.type == "cuda" else 1


class TileWork(Generic[_Result]):
    """Work on tiles, its results in the order of the tiles.

    Parameters
    ----------
    tiles
        What to work on.
    work
        From a tile to its result; called in several threads at once.
    device
        Where the work computes.

    Attributes
    ----------
    n_halved
        How often there was not enough memory.
    """

    def __init__(
        self,
        tiles: list[Spans],
        work: Callable[[Spans], _Result],
        device: torch.device,
    ) -> None:
        self.n_halved = 0
        self._waiting = deque(tiles)
        self._started: deque[tuple[Spans, Future[_Result]]] = deque()
        self._work = work
        self._device = device

    def remaining(self) -> list[Spans]:
        """Return the tiles whose results have not been yielded."""
        return [tile for tile, _ in self._started] + list(self._waiting)

    def results(self) -> Generator[tuple[Spans, _Result], None, None]:
        """Yield each tile with its result.

        Raises
        ------
        DataError
            If there is not enough memory for the smallest tile.
        """
        workers = n_workers(self._device)
        with (
            _threads_shared_by(workers, self._device),
            ThreadPoolExecutor(workers, "tile") as pool,
        ):
            try:
                while self._waiting or self._started:
                    # One tile more than threads, so that none waits for the next.
                    while self._waiting and len(self._started) <= workers:
                        tile = self._waiting.popleft()
                        self._started.append((tile, pool.submit(self._work, tile)))
                    tile, future = self._started[0]
                    try:
                        result = future.result()
                    except (RuntimeError, MemoryError) as error:
                        if not is_out_of_memory(error):
                            raise
                        self._halve(error)
                        continue
                    self._started.popleft()
                    yield tile, result
            finally:
                for _, future in self._started:
                    future.cancel()

    def _halve(self, error: Exception) -> None:
        """Put all tiles that are not done back, halved."""
        for _, future in self._started:
            future.cancel()
        for _, future in self._started:
            if not future.cancelled():
                future.exception()  # until it is over, it holds its memory
        tiles = self.remaining()
        if size(tiles[0]) < FEWEST_POSITIONS:
            raise DataError(
                f"out of memory even for a small part of the tomogram ({error}); close "
                "other programs, or compute elsewhere (--device cpu)"
            ) from error
        self._started.clear()
        self._waiting = deque(
            half
            for tile in tiles
            for half in (halved(tile) if size(tile) > 1 else [tile])
        )
        self.n_halved += 1
        free_memory(self._device)


@contextmanager
def _threads_shared_by(workers: int, device: torch.device) -> Iterator[None]:
    """Give each worker its share of torch's threads."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, before // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)
