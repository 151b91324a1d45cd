"""Write usidstream.toml, its JSON schema and the table in docs/operating.md from the model.

Run it after changing an option: ``python config/generate.py``. A test tells when it is due.
"""

from __future__ import annotations

import re
from pathlib import Path

from usidstreamd.config import reference

HERE = Path(__file__).resolve().parent
OPERATING = HERE.parent / "docs" / "operating.md"
TABLE = re.compile(r"(?<=<!-- options -->\n).*?(?=<!-- end of options -->)", re.DOTALL)


def main() -> None:
    """Write all three."""
    (HERE / "usidstream.toml").write_text(reference.toml_text(), encoding="utf-8")
    (HERE / reference.SCHEMA_NAME).write_text(reference.schema_text(), encoding="utf-8")
    text = OPERATING.read_text(encoding="utf-8")
    table = reference.markdown_table()
    OPERATING.write_text(TABLE.sub(lambda _: table, text), encoding="utf-8")


if __name__ == "__main__":
    main()
