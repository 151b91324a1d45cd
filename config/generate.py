"""Write usidstream.toml, its JSON schema and tables of docs/operating.md from what the daemon has.

Run it after changing an option, or an event of the log or of the operator's command: ``python
config/generate.py``. A test tells when it is due.
"""

from __future__ import annotations

import re
from pathlib import Path

from usidstreamd.config import reference
from usidstreamd.logs import events
from usidstreamd.metrics import names
from usidstreamd.supervision import happenings

HERE = Path(__file__).resolve().parent
OPERATING = HERE.parent / "docs" / "operating.md"


def main() -> None:
    """Write all of them."""
    (HERE / "usidstream.toml").write_text(reference.toml_text(), encoding="utf-8")
    (HERE / reference.SCHEMA_NAME).write_text(reference.schema_text(), encoding="utf-8")
    text = OPERATING.read_text(encoding="utf-8")
    text = _with_table(text, "options", reference.markdown_table())
    text = _with_table(text, "events", events.markdown_table())
    text = _with_table(text, "metrics", names.markdown_table())
    text = _with_table(text, "happenings", happenings.markdown_table())
    OPERATING.write_text(text, encoding="utf-8")


def _with_table(text: str, name: str, table: str) -> str:
    place = re.compile(f"(?<=<!-- {name} -->\n).*?(?=<!-- end of {name} -->)", re.DOTALL)
    return place.sub(lambda _: table, text)


if __name__ == "__main__":
    main()
