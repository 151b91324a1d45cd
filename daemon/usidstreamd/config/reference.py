"""The model written down: the TOML file that ships, the editors' schema, the table of the docs.

Pure text from `Config`; ``config/generate.py`` puts it in its places, and a test compares.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from .model import RELOADABLE, SECTIONS, Config, show
from .sources import PREFIX

WIDTH_COLUMNS = 100
SCHEMA_NAME = "usidstream.schema.json"
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
RELOADABLE_MARK = "reloadable"

HEAD = f"""\
#:schema ./{SCHEMA_NAME}
# usidstreamd's configuration: every option, with its default.
# Start with `usidstreamd serve --config usidstream.toml`. Variables such as {PREFIX}MAX_SCANS
# override what stands here, and flags override both; `usidstreamd check-config usidstream.toml`
# tells what holds. On SIGHUP a running daemon takes up what is marked "{RELOADABLE_MARK}".
# Written from the daemon's model by config/generate.py.
"""


def toml_text() -> str:
    """Return the file that ships: every option with its default and what it does."""
    return HEAD + "".join(_toml_entry(name) for name in Config.model_fields)


def _toml_entry(name: str) -> str:
    field = Config.model_fields[name]
    heading = f"\n# ---- {SECTIONS[name]} ----\n" if name in SECTIONS else ""
    lines = [f"# {line}" for line in textwrap.wrap(field.description or "", WIDTH_COLUMNS - 2)]
    if field.default_factory is None:
        line = f"{name} = {show(field.default)}"
    else:  # a value of this machine would be wrong on the next
        line = f"# {name} = {show((field.examples or [''])[0])}"
    mark = f"  # {RELOADABLE_MARK}" if name in RELOADABLE else ""
    return heading + "\n" + "\n".join([*lines, line + mark]) + "\n"


def schema_text() -> str:
    """Return the JSON schema (draft 2020-12) that editors check a TOML file against."""
    schema = Config.model_json_schema()
    for option in schema["properties"].values():
        del option["title"]
    head = {"$schema": SCHEMA_DIALECT, "title": "usidstreamd's configuration"}
    del schema["title"]
    schema["description"] = "Every option of usidstreamd serve. Units stand last in the names."
    return json.dumps(head | schema, indent=2) + "\n"


def markdown_table() -> str:
    """Return the options as a table for the docs."""
    return "\n".join(_markdown_rows()) + "\n"


def _markdown_rows() -> Iterator[str]:
    yield "| option | default | at run time | what it does |"
    yield "| --- | --- | --- | --- |"
    for name, field in Config.model_fields.items():
        default = "(see there)" if field.default_factory else f"`{show(field.default)}`"
        when = "SIGHUP" if name in RELOADABLE else "restart"
        yield f"| `{name}` | {default} | {when} | {field.description} |"
