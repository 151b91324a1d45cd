"""What is written from the model is current, and editors judge a file as the daemon does."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from usidstreamd.config import Config, reference
from usidstreamd.config.model import RELOADABLE, SECTIONS
from usidstreamd.config.sources import gather

ROOT = Path(__file__).resolve().parents[2]
TOML = ROOT / "config" / "usidstream.toml"
SCHEMA = ROOT / "config" / "usidstream.schema.json"
OPERATING = ROOT / "docs" / "operating.md"
AGAIN = "run: python config/generate.py"


def test_the_files_are_current() -> None:
    assert TOML.read_text("utf-8") == reference.toml_text(), AGAIN
    assert SCHEMA.read_text("utf-8") == reference.schema_text(), AGAIN


def test_the_table_of_the_docs_is_current() -> None:
    text = OPERATING.read_text("utf-8")
    (table,) = re.findall(r"<!-- options -->\n(.*?)<!-- end of options -->", text, re.S)
    assert table == reference.markdown_table(), AGAIN


def test_every_option_tells_what_it_does() -> None:
    for name, field in Config.model_fields.items():
        assert field.description, name
        assert field.description.endswith((".", ")")), name
        assert (field.default_factory is None) or field.examples, name


def test_tables_name_options_that_exist() -> None:
    assert set(RELOADABLE) | set(SECTIONS) <= set(Config.model_fields)


def test_an_editor_finds_the_schema() -> None:
    first = TOML.read_text("utf-8").splitlines()[0]
    name = first.removeprefix("#:schema ")
    assert (TOML.parent / name).resolve() == SCHEMA


def test_no_line_of_the_file_is_long() -> None:
    assert max(map(len, reference.toml_text().splitlines())) <= reference.WIDTH_COLUMNS


@pytest.mark.parametrize(
    ("text", "is_fine"),
    [
        (TOML.read_text("utf-8"), True),
        ("", True),
        ("flush_interval_s = 1", True),
        ('data_dir = "/x"\ncodec_threads = 3', True),
        ("flush_intervall_s = 1", False),
        ("flush_interval_s = 0", False),
        ("join_timeout_s = 0", True),
        ("max_scans = 1025", False),
        ('max_scans = "3"', False),
        ("max_scans = true", False),
        ("allow_insecure = 1", False),
        ('bind = "127.0.0.1:5755"', False),
        ('bind = "tcp://127.0.0.1:0"', True),
        ("data_dir = 3", False),
    ],
)
def test_schema_and_daemon_judge_alike(tmp_path: Path, text: str, is_fine: bool) -> None:
    validators = pytest.importorskip("jsonschema.validators", reason="is in the extra 'test'")
    schema = json.loads(SCHEMA.read_text("utf-8"))
    judge = validators.Draft202012Validator
    judge.check_schema(schema)
    file = tmp_path / "c.toml"
    file.write_text(text, encoding="utf-8")
    assert judge(schema).is_valid(tomllib.loads(text)) is is_fine
    assert (gather(file, environ={}).config is not None) is is_fine
