"""The files with the scores of a record.

All records of a setting and seed have the same test images. They share the list of these images, a file
that is named after its content. Each record adds a file with one column, its scores.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from attnbench.files import read_file
from attnbench.records.record import Record

_SCORES = ("score",)
_TEXTS = ("target", "image")
_IMAGES = (*_TEXTS, "present")
MAX_BYTES = 1 << 28  # of a file of scores
# A small file may decode to any number of rows, and to any length of text.
_MAX_ROWS, _MAX_TEXT_BYTES = 20_000_000, 1 << 30


@dataclass(frozen=True)
class EncodedScores:
    """The files of a table of scores.

    Attributes:
        scores: a Parquet file with the column `score`, about 3.5 bytes per score.
        images: a Parquet file with the columns `target`, `image` and `present`, in the same order.
    """

    scores: bytes
    images: bytes


def encode_scores(table: pa.Table) -> EncodedScores:
    """Return the files of a table of scores, see `attnbench.records.outcome.SCORES_SCHEMA`."""
    scores = io.BytesIO()
    pq.write_table(
        table.select(_SCORES),
        scores,
        compression="zstd",
        use_dictionary=False,
        column_encoding={"score": "BYTE_STREAM_SPLIT"},  # scores rarely repeat, their exponents do
        write_statistics=False,
        store_schema=False,
    )
    images = io.BytesIO()
    pq.write_table(
        table.select(_IMAGES),
        images,
        compression="zstd",
        compression_level=15,
        write_statistics=False,
        store_schema=False,
    )
    return EncodedScores(scores.getvalue(), images.getvalue())


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 (hex) of a file's content."""
    return hashlib.sha256(content).hexdigest()


def scores_file(path: Path) -> Path:
    """Return the file of a record's scores, given the record's JSON file."""
    return path.with_suffix(".parquet")


def images_file(path: Path, images_sha256: str) -> Path:
    """Return the file of a record's list of images, given the record's JSON file.

    Args:
        path: the record's JSON file.
        images_sha256: the SHA-256 (hex) of the list's content.
    """
    return path.with_name(f"images-{images_sha256[:16]}.parquet")


def files_of(path: Path, record: Record) -> list[Path]:
    """Return the files that hold a record's scores.

    Args:
        path: the record's JSON file.
        record: the record in it.
    """
    files = [scores_file(path)]
    if record.test_images_sha256 is not None:
        files.append(images_file(path, record.test_images_sha256))
    return files


def read_scores(path: Path, record: Record) -> pa.Table:
    """Read the scores of a record: a row per test image.

    Args:
        path: the record's JSON file.
        record: the record in it.

    Returns:
        The columns `target` and `image` (text), `present` (bool) and `score` (floating point).

    Raises:
        ValueError: if a file is missing, is not a table of scores, or belongs to another record.
    """
    content = _read(scores_file(path), record.scores_sha256, "scores")
    if record.test_images_sha256 is None:  # older records have all columns in one file
        table = _decode(content, "scores", (*_IMAGES, *_SCORES))
    else:
        listed = images_file(path, record.test_images_sha256)
        images = _read(listed, record.test_images_sha256, "list of test images")
        scores = _decode(content, "scores", _SCORES)
        table = _decode(images, "list of test images", _IMAGES)
        if len(scores) != len(table):
            raise ValueError(f"it has {len(scores):,} scores of {len(table):,} test images")
        table = table.append_column("score", scores["score"])
    _check_values(table)
    return table


def as_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of numbers or booleans without nulls as an array `[n]`, which may be read-only.

    The `to_numpy` of pyarrow imports pandas, which takes a good part of the time of a short command.
    """
    values = column.combine_chunks()
    if pa.types.is_boolean(column.type):
        return np.from_dlpack(values.cast(pa.uint8())).astype(bool)
    return np.from_dlpack(values)


def is_intact(path: Path, record: Record) -> bool:
    """Return whether the files with a record's scores exist and have the recorded hashes.

    Args:
        path: the record's JSON file.
        record: the record in it.
    """
    hashes = (record.scores_sha256, record.test_images_sha256)
    try:
        return all(
            sha256_of(read_file(file, MAX_BYTES)) == sha256
            for file, sha256 in zip(files_of(path, record), hashes, strict=False)
        )
    except OSError:
        return False


def _read(file: Path, sha256: str, what: str) -> bytes:
    try:
        content = read_file(file, MAX_BYTES)
    except OSError as error:
        raise ValueError(f"its {what} cannot be read ({error.strerror})") from None
    if sha256_of(content) != sha256:
        raise ValueError(f"its {what} changed after it was written (the hash differs)")
    return content


def _decode(content: bytes, what: str, columns: tuple[str, ...]) -> pa.Table:
    buffer = pa.BufferReader(content)
    try:
        metadata = pq.read_metadata(buffer)
        names = metadata.schema.to_arrow_schema().names
        rows = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"its {what} cannot be read ({type(error).__name__})") from None
    if sorted(names) != sorted(columns):
        raise ValueError(f"unexpected columns in its {what}: {', '.join(names)[:1000]}")
    if rows > _MAX_ROWS:
        raise ValueError(f"its {what} has {rows:,} rows, more than {_MAX_ROWS:,}")
    try:
        # Equal texts stay one text until the size of the decoded column is known.
        texts = [name for name in columns if name in _TEXTS]
        table = pq.ParquetFile(buffer, metadata=metadata, read_dictionary=texts).read(
            use_threads=False
        )
    except Exception as error:
        raise ValueError(f"its {what} cannot be read ({type(error).__name__})") from None
    for index, name in enumerate(table.column_names):
        if pa.types.is_dictionary(table[name].type):
            table = table.set_column(index, name, _decoded_texts(table[name], what))
    return table


def _decoded_texts(column: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    """Return a column of texts in its plain form. Raises ValueError if that is too large."""
    size = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
        size += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    if size > _MAX_TEXT_BYTES:
        raise ValueError(f"its {what} has more than {_MAX_TEXT_BYTES >> 20} MiB of text")
    return column.cast(column.type.value_type)


def _check_values(table: pa.Table) -> None:
    present, score = table["present"], table["score"]
    has_present = pa.types.is_boolean(present.type) and not present.null_count
    if not has_present or not pa.types.is_floating(score.type):
        raise ValueError("the columns `present` and `score` are not booleans and floats")
    if any(not _is_text(table[name]) for name in ("target", "image")):
        raise ValueError("the columns `target` and `image` are not text")
    if score.null_count or not np.isfinite(as_array(score)).all():
        raise ValueError("some of its scores are NaN or infinite")


def _is_text(column: pa.ChunkedArray) -> bool:
    kind = column.type
    return not column.null_count and (pa.types.is_string(kind) or pa.types.is_large_string(kind))
