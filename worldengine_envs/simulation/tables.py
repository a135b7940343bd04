"""Arrays that grow by doubling, with a bound that is checked before anything is allocated."""

from __future__ import annotations

import numpy as np

from worldengine_envs.errors import DataError

MAX_TABLE_BYTES = 16 * 2**30  # of one table; more is a broken input or a bank that should be split


class GrowingTable:
    """A table of rows that only grows; ``data`` has spare rows behind the used ones."""

    def __init__(self, name: str, dtype, columns: tuple[int, ...] = (), capacity: int = 16):
        self.name, self.rows = name, 0
        self.data = np.zeros((capacity, *columns), dtype)

    @property
    def used(self) -> np.ndarray:
        """The used rows, without a copy; rows added later may be in another array."""
        return self.data[: self.rows]

    def append(self, block: np.ndarray) -> int:
        """Adds rows and returns the number of the first one.

        Raises:
            DataError: The table would exceed MAX_TABLE_BYTES.
        """
        first, needed = self.rows, self.rows + len(block)
        if needed > len(self.data):
            self._grow(needed)
        self.data[first:needed] = block
        self.rows = needed
        return first

    def append_row(self, row) -> int:
        """Adds one row and returns its number."""
        return self.append(np.array([row], self.data.dtype))

    def _grow(self, needed: int) -> None:
        capacity = max(needed, 2 * len(self.data))
        row_bytes = self.data[:1].nbytes
        if capacity * row_bytes > MAX_TABLE_BYTES:
            if needed * row_bytes > MAX_TABLE_BYTES:
                raise DataError(
                    f"{needed} rows need {needed * row_bytes / 2**30:.1f} GiB, over the limit of {MAX_TABLE_BYTES / 2**30:.0f} GiB",
                    field=self.name,
                    remedy="Compile fewer scenarios into one bank",
                )
            capacity = needed
        grown = np.zeros((capacity, *self.data.shape[1:]), self.data.dtype)
        grown[: self.rows] = self.data[: self.rows]
        self.data = grown
