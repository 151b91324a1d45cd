"""Attributes: what HDF5 can hold is written whole or not at all, and read back as it was.

Lists of strings are stored as fixed-length UTF-8 bytes, as every h5USID file since 2017 has them;
reading turns bytes back into strings. What HDF5 cannot hold raises and names its key. Knows nothing
of the USID model.
"""

from __future__ import annotations

import platform
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cache, partial
from importlib.metadata import version
from time import strftime
from typing import Any
from warnings import warn

import h5py
import numpy as np

from .checks import require_editable, require_object, require_text, require_texts, say
from .undo import Undo, all_or_nothing

# For each key, a function that creates the attribute under the name that it is given.
Creators = dict[str, Callable[[str], object]]

_PLAIN_KINDS = "biufcSV"  # the numpy kinds that map to an HDF5 type without help
_REFERENCES = (h5py.Reference, h5py.RegionReference)


def get_attr(h5_object: Any, attr_name: str) -> Any:
    """Read one attribute, with bytes decoded.

    Parameters
    ----------
    h5_object : h5py.File, h5py.Group or h5py.Dataset
    attr_name : str

    Returns
    -------
    object
        Strings as ``str``, lists of strings as an array of ``str``, anything else as h5py gives
        it. Bytes that are not UTF-8 stay bytes.

    Raises
    ------
    TypeError
        If ``h5_object`` is no HDF5 object or ``attr_name`` no string.
    KeyError
        If there is no such attribute.
    """
    require_object(h5_object, "h5_object")
    name = require_text(attr_name, "attr_name")
    if attr_name in h5_object.attrs:
        name = attr_name  # other programs leave blanks around names
    if name not in h5_object.attrs:
        raise KeyError(f"{name!r} is not an attribute of {h5_object.name!r}")
    return _decoded(h5_object.attrs[name])


def _decoded(value: Any) -> Any:
    """Return an attribute as read by h5py with all bytes turned into strings."""
    if isinstance(value, bytes):
        return _decoded_bytes(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "SO":
        items = [_decoded_bytes(item) if isinstance(item, bytes) else item for item in value.flat]
        if all(isinstance(item, str) for item in items):
            return np.array(items, dtype=str).reshape(value.shape)
    return value


def _decoded_bytes(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return bytes(value)


def get_attributes(
    h5_object: Any, attr_names: str | list[str] | None = None, strict: bool = False
) -> dict[str, Any]:
    """Read several attributes, or all of them.

    Parameters
    ----------
    h5_object : h5py.File, h5py.Group or h5py.Dataset
    attr_names : str or list of str, optional
        Default: all.
    strict : bool, optional
        Kept from the guide's signature. Attributes asked for by name must exist in any case; when
        all are read, one that cannot be found by its stripped name is reported by a warning, or
        raises if ``strict``.

    Returns
    -------
    dict
        Values as from :func:`get_attr`.

    Raises
    ------
    TypeError
        If ``h5_object`` is no HDF5 object or a name no string.
    KeyError
        If an attribute asked for does not exist.
    """
    require_object(h5_object, "h5_object")
    if attr_names is not None:
        return {name: get_attr(h5_object, name) for name in require_texts(attr_names, "attr_names")}
    found = {}
    for name in h5_object.attrs:
        if name.strip() != name and strict:
            raise KeyError(f"{name!r} has blanks around its name in {h5_object.name!r}")
        found[name] = _decoded(h5_object.attrs[name])
    return found


def write_simple_attrs(
    h5_obj: Any, attrs: Mapping[Any, Any], force_to_str: bool = True, verbose: bool = False
) -> None:
    """Write attributes: all of them, or none if one cannot be stored.

    Parameters
    ----------
    h5_obj : h5py.File, h5py.Group or h5py.Dataset
    attrs : dict
        Strings, numbers, booleans, arrays, lists of strings or of numbers, Enums (their name is
        stored), HDF5 references. For a group, a dict or a list with dicts becomes a sub-group. A
        value of None is left out, with a warning, since HDF5 knows no None.
    force_to_str : bool, optional
        Whether keys that are not strings are turned into strings or left out, with a warning
        either way.
    verbose : bool, optional
        Print what is written.

    Raises
    ------
    TypeError
        If ``h5_obj`` is no HDF5 object, ``attrs`` no dict, or a value is of a kind that HDF5
        cannot hold; the message names the key.
    ValueError
        If a key or value is of the right kind but cannot be stored (NUL inside a string, too
        large for the file's format version), if two keys become equal, if a dataset is given a
        nested dict, or if the file cannot be written to.
    """
    if not isinstance(attrs, Mapping):
        raise TypeError(f"attrs should be a dictionary, not {type(attrs).__name__}")
    require_object(h5_obj, "h5_obj")
    items = prepared_attrs(attrs, force_to_str)
    require_editable(h5_obj, "h5_obj")
    with all_or_nothing() as undo:
        _write_prepared(h5_obj, items, undo)
        for key, value in items.items():
            say(verbose, f"Wrote attribute {key} = {value!r} to {h5_obj.name}")


def prepared_attrs(attrs: Mapping[Any, Any], force_to_str: bool = True) -> dict[str, Any]:
    """Return attributes as HDF5 will hold them; raise for what it cannot. Touches no file."""
    items: dict[str, Any] = {}
    for raw_key, value in attrs.items():
        key = _prepared_key(raw_key, force_to_str)
        if key is None:
            continue
        if value is None:
            warn(f"attribute {key!r} is None, which HDF5 cannot hold: left out", stacklevel=3)
            continue
        if key in items:
            raise ValueError(f"two attributes would both be named {key!r}")
        items[key] = _prepared_value(key, value)
    return items


def _prepared_key(key: object, force_to_str: bool) -> str | None:
    if not isinstance(key, str):
        verb = "converted to a string" if force_to_str else "left out"
        warn(f"attribute key {key!r} is no string: {verb}", stacklevel=4)
        if not force_to_str:
            return None
    text = str(key).strip()
    if not text or "\0" in text:
        raise ValueError(f"attribute key {key!r} should not be empty nor contain NUL")
    return text


def _prepared_value(key: str, value: Any) -> Any:
    if isinstance(value, Enum):
        value = value.name
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = {str(number): item for number, item in enumerate(value)}
    if isinstance(value, Mapping):
        return prepared_attrs(value)
    if isinstance(value, h5py.Empty | h5py.Reference | h5py.RegionReference):
        return value
    if isinstance(value, str):
        return _checked_text(key, value)
    if isinstance(value, bool | int | float | complex | bytes | list | tuple | np.generic):
        return _prepared_array(key, value)
    if isinstance(value, np.ndarray):
        return _prepared_array(key, value)
    raise TypeError(f"attribute {key!r}: HDF5 cannot hold a {type(value).__name__}")


def _checked_text(key: str, value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"attribute {key!r}: not encodable as UTF-8 ({error.reason})") from None
    if "\0" in value:
        raise ValueError(f"attribute {key!r}: HDF5 cannot hold NUL inside a string")
    return str(value)


def _prepared_array(key: str, value: Any) -> Any:
    if np.ma.is_masked(value):
        raise TypeError(f"attribute {key!r}: HDF5 cannot hold masked values")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise TypeError(f"attribute {key!r}: {error}") from None
    _require_kept(key, _flattened([value]), array.dtype.kind)
    if array.dtype.kind == "O" and array.size:
        return _prepared_objects(key, array)
    if array.dtype.kind == "U":
        return _encoded_texts(key, array)
    if array.dtype.kind not in _PLAIN_KINDS or array.dtype.hasobject:
        raise TypeError(f"attribute {key!r}: HDF5 cannot hold values of type {array.dtype}")
    return array


def _require_kept(key: str, items: list[Any], kind: str) -> None:
    """Raise for what numpy changes in silence when it makes an array of Python's own items."""
    if isinstance(items[0] if items else None, np.ndarray):
        return
    if kind == "f" and items and all(isinstance(item, int) for item in items):
        raise TypeError(f"attribute {key!r}: integers beyond 64 bits")
    if kind in "US" and not all(isinstance(item, str | bytes) for item in items):
        raise TypeError(f"attribute {key!r}: strings and numbers mixed in one list")
    if any(isinstance(item, bytes) and b"\0" in item for item in items):
        raise ValueError(f"attribute {key!r}: HDF5 cannot hold NUL inside a string; use np.void")


def _flattened(value: Iterable[Any]) -> list[Any]:
    flat: list[Any] = []
    for item in value:
        if isinstance(item, list | tuple):
            flat.extend(_flattened(item))
        else:
            flat.append(item)
    return flat


def _prepared_objects(key: str, array: Any) -> Any:
    if all(isinstance(item, str) for item in array.flat):
        return _encoded_texts(key, array)
    for kind in _REFERENCES:
        if all(type(item) is kind for item in array.flat):
            return array.astype(h5py.special_dtype(ref=kind))
    names = sorted({type(item).__name__ for item in array.flat})
    raise TypeError(f"attribute {key!r}: HDF5 cannot hold these values of type {', '.join(names)}")


def _encoded_texts(key: str, array: Any) -> Any:
    encoded = [_checked_text(key, str(item)).encode("utf-8") for item in array.flat]
    longest = max((len(item) for item in encoded), default=0)
    dtype: Any = np.dtype(f"S{max(longest, 1)}")
    if any(not item.isascii() for item in encoded):
        dtype = h5py.string_dtype("utf-8", longest)
    return np.array(encoded, dtype=dtype).reshape(array.shape)


def _write_prepared(h5_obj: Any, items: Mapping[str, Any], undo: Undo) -> None:
    groups = {key: value for key, value in items.items() if isinstance(value, Mapping)}
    for key, value in groups.items():
        _write_group(h5_obj, key, value, undo)
    create_attributes(h5_obj, _creators(h5_obj, items, groups), undo)


def _creators(h5_obj: Any, items: Mapping[str, Any], groups: Iterable[str]) -> Creators:
    return {
        key: partial(h5_obj.attrs.create, data=value)
        for key, value in items.items()
        if key not in groups
    }


def new_attributes(h5_dset: Any, attrs: Mapping[Any, Any]) -> Creators:
    """Return what creates attributes of a dataset; raise for what HDF5 cannot hold."""
    items = prepared_attrs(attrs)
    for key, value in items.items():
        require_flat(key, value)
    return _creators(h5_dset, items, ())


def require_flat(key: str, value: object) -> None:
    """Raise ValueError for a prepared value that only a group can hold."""
    if isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004 - scripts catch ValueError, as from pyUSID
            f"attribute {key!r}: a dataset cannot hold a nested dictionary; flatten it first"
        )


def create_attributes(h5_obj: Any, creators: Creators, undo: Undo) -> None:
    """Create attributes, in the place of those that have the same names.

    All go in under temporary names first, since it is the creation that HDF5 refuses.

    Parameters
    ----------
    h5_obj : h5py.File, h5py.Group or h5py.Dataset
    creators : dict
        See :data:`Creators`.
    undo : Undo
        Gets the steps that bring the attributes of ``h5_obj`` back.

    Raises
    ------
    ValueError
        If HDF5 refuses an attribute; the message names the key.
    """
    temporary = {key: f"{key}:{uuid.uuid4().hex}" for key in creators}
    for key, name in temporary.items():
        undo.add(partial(_remove_attribute, h5_obj, name))
        _create_attribute(h5_obj, key, partial(creators[key], name))
    for key, name in temporary.items():
        former = held_attribute(h5_obj, key) if key in h5_obj.attrs else None
        undo.add(partial(_restore_attribute, h5_obj, key, former))
        _remove_attribute(h5_obj, key)
        h5py.h5a.rename(h5_obj.id, name.encode("utf-8"), key.encode("utf-8"))


def _remove_attribute(h5_obj: Any, key: str) -> None:
    if key in h5_obj.attrs:
        del h5_obj.attrs[key]


def _restore_attribute(h5_obj: Any, key: str, former: Callable[[Any, str], None] | None) -> None:
    _remove_attribute(h5_obj, key)
    if former is not None:
        former(h5_obj, key)


def _create_attribute(h5_obj: Any, key: str, create: Callable[[], object]) -> None:
    try:
        create()
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise ValueError(
            f"attribute {key!r} of {h5_obj.name!r} cannot be stored: {error}"
        ) from error


def _write_group(h5_obj: Any, key: str, items: Mapping[str, Any], undo: Undo) -> None:
    if isinstance(h5_obj, h5py.Dataset):
        require_flat(key, items)
    if "/" in key or key in h5_obj:
        raise ValueError(f"attribute {key!r}: no sub-group of that name fits in {h5_obj.name!r}")
    undo.creates(h5_obj, key)
    _write_prepared(h5_obj.create_group(key), items, undo)


def held_attribute(source: Any, key: str) -> Callable[[Any, str], None]:
    """Hold an attribute as it is stored, whatever its type.

    Parameters
    ----------
    source : h5py.File, h5py.Group or h5py.Dataset
    key : str

    Returns
    -------
    callable
        ``create(dest, name)`` creates an attribute of the same type and value on an object.
    """
    attribute = h5py.h5a.open(source.id, key.encode("utf-8"))
    kind, space = attribute.get_type().copy(), attribute.get_space()
    value = None
    if space.get_simple_extent_type() != h5py.h5s.NULL:
        value = np.empty(attribute.shape, dtype=attribute.dtype)
        attribute.read(value)

    def create(dest: Any, name: str) -> None:
        copied = h5py.h5a.create(dest.id, name.encode("utf-8"), kind, space)
        if value is not None:
            copied.write(value)

    return create


def write_book_keeping_attrs(h5_obj: Any) -> None:
    """Write who made an object, when and with what.

    Parameters
    ----------
    h5_obj : h5py.File, h5py.Group or h5py.Dataset
        Gets ``machine_id`` (the host's full name), ``timestamp`` (local time,
        ``YYYY_mm_dd-HH_MM_SS``), ``platform`` and ``usidstream_version``.

    Raises
    ------
    TypeError
        If ``h5_obj`` is no HDF5 object.
    ValueError
        If its file cannot be written to.
    """
    require_object(h5_obj, "h5_obj")
    write_simple_attrs(h5_obj, book_keeping())


def book_keeping() -> dict[str, str]:
    """Return the book-keeping attributes of an object that is written now."""
    return {
        "machine_id": _machine_id(),
        "timestamp": strftime("%Y_%m_%d-%H_%M_%S"),
        "platform": platform.platform(),
        "usidstream_version": version("usidstream"),
    }


@cache
def _machine_id() -> str:
    """Return the host's full name; asked once, for a slow name server can take seconds."""
    return socket.getfqdn()
