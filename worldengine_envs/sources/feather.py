"""Tables in Feather files, read with bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.sources.optional import require

MAX_BYTES = 512 * 2**20
TEXT = ("track_uuid", "category", "sensor_name")


def read_columns(file: Path, columns: tuple[str, ...], max_rows: int) -> dict[str, np.ndarray]:
    """Returns columns by name: int64 for times, float64 for other numbers, objects for text; all (rows,), without gaps or NaN.

    Raises:
        DataError: The file is missing, truncated, too large, lacks a column, or holds NaN.
    """
    pyarrow, feather = require("pyarrow"), require("pyarrow.feather")
    if not file.is_file():
        raise DataError("missing", file=file)
    if file.stat().st_size > MAX_BYTES:
        raise DataError(f"{file.stat().st_size} bytes, more than {MAX_BYTES}", file=file)
    try:
        table = feather.read_table(file, memory_map=False)
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataError(f"truncated or no Feather file ({str(error).splitlines()[0][:100]})", file=file) from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(f"has no column {', '.join(missing)}", file=file)
    if not 1 <= table.num_rows <= max_rows:
        raise DataError(f"{table.num_rows} rows, must be 1 to {max_rows}", file=file)
    return {name: _column(table.column(name), name, file) for name in columns}


def _column(column, name: str, file: Path) -> np.ndarray:
    if column.null_count:
        raise DataError(f"{column.null_count} values are missing", file=file, field=name)
    values = column.to_numpy()
    if name in TEXT:
        if not all(isinstance(value, str) for value in values):
            raise DataError("must be text", file=file, field=name)
        return values
    if name == "timestamp_ns":
        if values.dtype.kind not in "iu":
            raise DataError(f"is {values.dtype}, must be integer nanoseconds", file=file, field=name)
        return values.astype(np.int64)
    if values.dtype.kind not in "iufb":
        raise DataError(f"is {column.type}, must be numbers", file=file, field=name)
    values = values.astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(f"{int(bad.sum())} values are NaN or infinite", file=file, field=name)
    return values
