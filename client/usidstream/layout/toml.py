"""Plain dicts of a layout to and from TOML.

Arrays become lists; a key ``dtype`` tells the precision of axis values that are not float64.
"""

from __future__ import annotations

import tomllib
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LayoutError


def load(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a TOML file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LayoutError(
            f"is no UTF-8 text: {error}.", field=fspath(path), hint="Save it as UTF-8."
        ) from error
    return _parse(text, fspath(path))


def loads(text: str) -> dict[str, Any]:
    """Read TOML text."""
    return _parse(text, "toml")


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # tomllib lets through what int() and the recursion limit refuse.
        raise LayoutError(
            f"is not valid TOML: {error}.", field=where, hint="See https://toml.io."
        ) from error


def dumps(plain: dict[str, Any]) -> str:
    """Write a layout's plain dict as TOML text.

    Raises
    ------
    ModuleNotFoundError
        The package tomli-w is not installed.
    LayoutError
        A complex array among the attributes, which TOML cannot hold.
    """
    try:
        import tomli_w
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Writing a layout as TOML needs the package tomli-w: pip install tomli-w"
        ) from error
    return tomli_w.dumps(_listed(plain, ""))


def _listed(value: Any, field: str) -> Any:
    if isinstance(value, dict):
        return {key: _listed(each, f"{field}.{key}") for key, each in value.items()} | _precision(
            value
        )
    if isinstance(value, list):
        return [_listed(each, f"{field}[{i}]") for i, each in enumerate(value)]
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "c":
            raise LayoutError(
                "TOML has no complex numbers.",
                field=field.removeprefix("."),
                hint="Give the real and the imaginary part as two attributes.",
            )
        return value.tolist()
    return value


def _precision(table: dict[str, Any]) -> dict[str, str]:
    values = table.get("values") if "units" in table else None
    is_single = isinstance(values, np.ndarray) and values.dtype == np.float32
    return {"dtype": "float32"} if is_single else {}
