"""Where values come from: defaults, then a file, then the environment, then flags; the last wins.

Whatever is wrong is gathered and told at once, each with the source that it stands in, so that
nobody mends a file that a variable overrides. What the options mean is `model`'s affair.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from usidstream.keys import KEY_FILE_VARIABLE, SERVER_KEY_VARIABLE

from .model import Config, ConfigError, require, show

PREFIX = "USIDSTREAM_"
CLIENT_VARIABLES = {SERVER_KEY_VARIABLE, KEY_FILE_VARIABLE}
"""What the ``usidstream`` commands read; a user's shell may have them when a daemon is started."""
MAX_SHOWN_CHARS = 200
NEAR_ENOUGH = 0.4


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value stands.

    Parameters
    ----------
    kind
        ``default``, ``file``, ``environment`` or ``flag``.
    name
        The file's path, the variable or the flag; empty for a default.
    """

    kind: str
    name: str = ""

    def locate(self, option: str) -> str:
        """Say where an option's value is to be mended."""
        if self.kind == "file":
            return f"{self.name}: {option}"
        return self.name or f"default of {option}"

    def __str__(self) -> str:
        return self.name or self.kind


DEFAULT = Source("default")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps the daemon from starting.

    Parameters
    ----------
    source
        What is to be mended.
    option
        The option or what stands in its place; empty if the whole source is meant.
    message
        One line: where, which value, what it must be.
    """

    source: Source
    option: str
    message: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """What all sources say together.

    Parameters
    ----------
    config
        None if there is any problem.
    sources
        The source of every option's value.
    problems
        In the order of the sources.
    """

    config: Config | None
    sources: Mapping[str, Source]
    problems: tuple[Problem, ...]


def load(path: Path | None, *, environ: Mapping[str, str] | None = None, **flags: Any) -> Config:
    """Return the configuration, or raise for all that is wrong with it.

    Parameters
    ----------
    path, environ, flags
        As `gather` takes them.

    Raises
    ------
    ConfigError
        The file is missing or is not TOML, or an option of any source is unknown or out of bounds;
        an unknown option brings the nearest valid name.
    """
    gathered = gather(path, environ=environ, **flags)
    if gathered.config is None:
        message = "; ".join(problem.message for problem in gathered.problems)
        raise ConfigError(message, hint="See config/usidstream.toml.")
    return gathered.config


def gather(
    path: Path | None, *, environ: Mapping[str, str] | None = None, **flags: Any
) -> Gathered:
    """Lay flags over the environment over a file over the defaults, and check the whole.

    Parameters
    ----------
    path
        A TOML file, or None.
    environ
        Variables ``USIDSTREAM_<OPTION>``; None takes the process's own.
    flags
        By option; those that are None were not given.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    sources = dict.fromkeys(Config.model_fields, DEFAULT)
    for option, value, source in _layers(path, environ, flags, problems):
        values[option], sources[option] = value, source
    try:
        config = Config(**values)
    except ValidationError as error:
        problems += [_explain(item, sources) for item in error.errors()]
        return Gathered(None, sources, tuple(problems))
    problems += _unsafe_bind(config, sources["bind"])
    return Gathered(None if problems else config, sources, tuple(problems))


Layer = Iterator[tuple[str, Any, Source]]


def _layers(
    path: Path | None,
    environ: Mapping[str, str] | None,
    flags: Mapping[str, Any],
    problems: list[Problem],
) -> Layer:
    if path is not None:
        yield from _from_file(path, problems)
    yield from _from_environment(os.environ if environ is None else environ, problems)
    for option, value in flags.items():
        if value is not None:
            yield option, value, Source("flag", "--" + option.replace("_", "-"))


def _from_file(path: Path, problems: list[Problem]) -> Layer:
    source = Source("file", str(path))
    for option, value in _read(path, source, problems).items():
        if option in Config.model_fields:
            yield option, value, source
        else:
            problems.append(Problem(source, option, _unknown_key(path, option, value)))


def _read(path: Path, source: Source, problems: list[Problem]) -> dict[str, Any]:
    try:
        # Notepad begins a file with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problems.append(Problem(source, "", f"{path} cannot be read: {error.strerror}"))
    except (ValueError, RecursionError) as error:
        # tomllib lets through what int() and the recursion limit refuse.
        problems.append(Problem(source, "", f"{path} is not TOML: {error}"))
    return {}


def _unknown_key(path: Path, option: str, value: Any) -> str:
    if isinstance(value, dict) and set(value) & set(Config.model_fields):
        return f"{path}: [{option}] is not wanted: all options stand at the top, in no table"
    return f"{path}: unknown option {option!r}{_nearest(option, Config.model_fields)}"


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> Layer:
    variables = {PREFIX + option.upper(): option for option in Config.model_fields}
    ours = {name for name in environ if name.startswith(PREFIX)} - CLIENT_VARIABLES
    for variable in sorted(ours):
        source = Source("environment", variable)
        if variable in variables:
            option = variables[variable]
            yield option, _from_text(option, environ[variable]), source
        else:
            near = _nearest(variable, variables)
            problems.append(Problem(source, "", f"unknown variable {variable!r}{near}"))


def _from_text(option: str, text: str) -> Any:
    """Read a variable as its option's kind; other text stays text, and is refused as such."""
    kind = Config.model_fields[option].annotation
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is float:
        return _number(float, text)
    if kind is int or kind == int | str:
        return _number(int, text)
    if kind == list[str]:
        return _words(text)
    return text


def _number(kind: type[int] | type[float], text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        return text


def _words(text: str) -> Any:
    """Read a list as TOML has it, or one word without any brackets."""
    if not text.lstrip().startswith("["):
        return [text] if text else []
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _nearest(name: str, valid: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=NEAR_ENOUGH)
    return f", did you mean {near[0]!r}?" if near else ", and no option is called much like it"


def _explain(item: Any, sources: Mapping[str, Source]) -> Problem:
    """Tell what is wrong with a value in the words of the option, not of the validator."""
    option = str(item["loc"][0])
    reason = item.get("ctx", {}).get("error")
    message = str(reason) if isinstance(reason, ValueError) else require(option)
    value = show(item["input"])
    if len(value) > MAX_SHOWN_CHARS:
        value = value[:MAX_SHOWN_CHARS] + "..."
    source = sources[option]
    return Problem(source, option, f"{source.locate(option)} = {value} {message}")


def _unsafe_bind(config: Config, source: Source) -> Iterator[Problem]:
    try:
        config.require_safe_bind()
    except ConfigError as error:
        where = "" if source.kind == "default" else f"{source}: "
        message = f"{where}{error.message}: {error.hint[0].lower()}{error.hint[1:].rstrip('.')}"
        yield Problem(source, "bind", message)
