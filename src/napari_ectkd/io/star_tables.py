"""STAR files as tables of text.

Values are read as text, so that what other programs wrote comes back as it was: "001"
stays "001" and 1.50 has its zero.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pandas as pd

from napari_ectkd.errors import FileMissingError, FormatError
from napari_ectkd.io.atomic import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A STAR file has no empty value, so an unlabeled pick needs a word of its own.
_EMPTY = "<empty>"
# Quotes can't be escaped in STAR, # begins a comment, < is for the word above, and what
# Python takes for a line's end may be any control character or odd space.
_BREAKS_STAR = re.compile(r"""[%"'#<\x00-\x1f\x7f-\x9f]|[^\S ]""")
_FLOAT_FORMAT = "%.6f"


def read_tables(path: Path) -> dict[str, pd.DataFrame]:
    """Read the blocks of a STAR file, all values as text.

    Raises
    ------
    FileMissingError
        If there is no such file.
    FormatError
        If it is no STAR file, or has no columns.
    """
    import starfile

    if not path.is_file():
        raise FileMissingError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
        if "data_" not in text:
            raise FormatError(f"{path.name}: not a STAR file (no data_ block in it)")
        # As text, so that columns of other programs come back as they were.
        columns = re.findall(r"^_(\S+)", text, re.MULTILINE)
        if not columns:
            raise FormatError(
                f"{path.name}: no columns in it (lines such as _rlnCoordinateX); "
                "export it again"
            )
        blocks = starfile.read(path, always_dict=True, parse_as_string=columns)
    except (ValueError, LookupError, TypeError, OSError) as error:
        if isinstance(error, FormatError):
            raise
        what = " ".join(str(error).split())
        raise FormatError(f"{path.name}: not a readable STAR file ({what})") from error
    tables = {
        str(name): pd.DataFrame([block]) if isinstance(block, dict) else block
        for name, block in blocks.items()
    }
    # starfile takes the word for a missing value, but it may be a name.
    return {name: table.fillna("nan") for name, table in tables.items()}


def write_particles(path: Path, table: pd.DataFrame) -> None:
    """Write a table as the block `particles`; the same table is the same file.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    import starfile

    text = starfile.to_string(
        {"particles": table}, float_format=_FLOAT_FORMAT, na_rep="nan"
    )
    # starfile's first line has the time in it.
    text = "# Written by napari-ectkd\n" + text.partition("\n")[2]
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def join_particles(parts: Sequence[Path], path: Path) -> None:
    """Write the rows of files of `write_particles`, of the same columns, as one.

    Row by row: however many there are, they need no memory.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8") as joined,
    ):
        for number, part in enumerate(parts):
            lines = part.read_text(encoding="utf-8").splitlines(keepends=True)
            columns = [i for i, line in enumerate(lines) if line.startswith("_")]
            if number == 0:
                joined.writelines(lines[: columns[-1] + 1])
            joined.writelines(line for line in lines[columns[-1] + 1 :] if line.strip())
        joined.write("\n")


def escaped(name: str) -> str:
    """Return a name as one STAR value: what would break it as %XX, empty as a word."""
    if name == "NaN":
        return "%4EaN"  # read as it stands, it is no text
    return _BREAKS_STAR.sub(lambda found: quote(found[0], safe=""), name) or _EMPTY


def unescaped(text: str) -> str:
    """Return the name that `escaped` made a STAR value of."""
    return "" if text == _EMPTY else unquote(text)


def as_text(column: pd.Series) -> list[str]:
    """Return each value as it is written: whole numbers without decimals."""
    return [
        "nan"
        if pd.isna(value)
        else _FLOAT_FORMAT % value
        if isinstance(value, float)
        else str(value)
        for value in column
    ]


def as_numbers(column: pd.Series) -> pd.Series:
    """Return text as numbers if they are written as the same text again."""
    try:
        numbers = pd.to_numeric(column)
    except ValueError:
        return column
    if numbers.dtype.kind == "f":
        texts = [_FLOAT_FORMAT % number for number in numbers]
    else:
        texts = [str(number) for number in numbers]
    return numbers if texts == list(column) else column
