"""Tables in Feather and Parquet files, read with bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldengine_envs.errors import DataError
from worldengine_envs.sources.optional import require

MAX_BYTES = 512 * 2**20
MAX_METADATA = 16 * 2**20  # bytes or entries of a Parquet file's own description
TEXT = ("track_uuid", "category", "sensor_name", "track_id", "object_type", "scenario_id")
INTEGER = {"timestamp_ns": "integer nanoseconds", "timestep": "integer steps"}


def read_feather(file: Path, columns: tuple[str, ...], max_rows: int) -> dict[str, np.ndarray]:
    """Returns columns by name: int64 for times, float64 for other numbers, objects for text; all (rows,), without gaps or NaN.

    Other columns are not unpacked, and reading ends where there are too many rows.

    Raises:
        DataError: The file is missing, truncated, too large, lacks a column, or holds NaN.
    """
    pyarrow, ipc = require("pyarrow"), require("pyarrow.ipc")
    _check_file(file)
    try:
        with ipc.open_file(file.read_bytes()) as content:
            names = content.schema.names
        _check_table(names, 1, columns, max_rows, file)
        options = ipc.IpcReadOptions(included_fields=[names.index(name) for name in columns], use_threads=False)
        batches, rows = [], 0
        with ipc.open_file(file.read_bytes(), options=options) as content:
            for i in range(content.num_record_batches):
                batches.append(content.get_batch(i))
                rows += batches[-1].num_rows
                if rows > max_rows:
                    raise DataError(f"{rows} rows or more, must be 1 to {max_rows}", file=file)
            table = pyarrow.Table.from_batches(batches, content.schema)
        table.validate(full=True)
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"truncated or no Feather file ({str(error).splitlines()[0][:100]})", file=file) from None
    _check_table(table.column_names, table.num_rows, columns, max_rows, file)
    return {name: _column(table.column(name), name, file) for name in columns}


def read_parquet(file: Path, columns: tuple[str, ...], max_rows: int) -> dict[str, np.ndarray]:
    """Returns columns by name, as ``read_feather`` does. Rows and sizes that the file claims are checked before it is read.

    Raises:
        DataError: The file is missing, truncated, too large, lacks a column, or holds NaN.
    """
    pyarrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    _check_file(file)
    try:
        limits = {"thrift_string_size_limit": MAX_METADATA, "thrift_container_size_limit": MAX_METADATA}
        with parquet.ParquetFile(file, memory_map=False, **limits) as content:
            about, schema = content.metadata, content.schema_arrow
        _check_table(schema.names, about.num_rows, columns, max_rows, file)
        for name in columns:
            if pyarrow.types.is_nested(schema.field(name).type):
                raise DataError("is a column of lists or records", file=file, field=name)
        size = sum(about.row_group(row).total_byte_size for row in range(about.num_row_groups))
        if size > MAX_BYTES:
            raise DataError(f"claims {size} bytes, more than {MAX_BYTES}", file=file)
        texts = [name for name in columns if name in TEXT]  # kept as numbers of words: a row may repeat a word of any length
        with parquet.ParquetFile(file, memory_map=False, read_dictionary=texts, **limits) as content:
            table = content.read(columns=list(columns), use_threads=False)
            table.validate(full=True)
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"truncated or no Parquet file ({(str(error).splitlines() or ['?'])[0][:100]})", file=file) from None
    _check_table(table.column_names, table.num_rows, columns, max_rows, file)
    return {name: _column(table.column(name), name, file) for name in columns}


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise DataError("missing", file=file)
    if file.stat().st_size > MAX_BYTES:
        raise DataError(f"{file.stat().st_size} bytes, more than {MAX_BYTES}", file=file)


def _check_table(names: list[str], rows: int, columns: tuple[str, ...], max_rows: int, file: Path) -> None:
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(f"has no column {', '.join(missing)}", file=file)
    twice = [name for name in columns if names.count(name) > 1]
    if twice:
        raise DataError(f"has several columns {', '.join(twice)}", file=file)
    if not 1 <= rows <= max_rows:
        raise DataError(f"{rows} rows, must be 1 to {max_rows}", file=file)


def _column(column, name: str, file: Path) -> np.ndarray:
    if column.null_count:
        raise DataError(f"{column.null_count} values are missing", file=file, field=name)
    if name in TEXT:
        return _text(column, name, file)
    values = column.to_numpy()
    if name in INTEGER:
        if values.dtype.kind not in "iu":
            raise DataError(f"is {values.dtype}, must be {INTEGER[name]}", file=file, field=name)
        return values.astype(np.int64)
    if values.dtype.kind not in "iufb":
        raise DataError(f"is {column.type}, must be numbers", file=file, field=name)
    values = values.astype(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(f"{int(bad.sum())} values are NaN or infinite", file=file, field=name)
    return values


def _text(column, name: str, file: Path) -> np.ndarray:
    """Returns (rows,) objects of a column of text; rows of a dictionary share their words."""
    parts = []
    for chunk in column.chunks:
        if hasattr(chunk, "dictionary"):
            words = np.array([*chunk.dictionary.to_pylist(), ""], object)[:-1]
            parts.append(words[chunk.indices.to_numpy(zero_copy_only=False)])
        else:
            parts.append(np.array([*chunk.to_pylist(), ""], object)[:-1])
    values = np.concatenate(parts)
    if not all(isinstance(value, str) for value in values):
        raise DataError("must be text", file=file, field=name)
    return values
