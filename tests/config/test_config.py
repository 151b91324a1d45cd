"""The configuration file is real: every option in it, each with its default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from usidstreamd.config import Config, ConfigError, load

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "usidstream.toml"
CHOSEN_BY_THE_MACHINE = {"data_dir", "codec_threads"}
NONE_UNLESS_GIVEN = {
    "server_key_file", "client_keys_dir", "dashboard_key_file", "metrics_token_file",
}  # fmt: skip


def test_the_shipped_file_loads_and_holds_the_defaults() -> None:
    assert load(SHIPPED) == Config()


def test_every_option_stands_in_the_shipped_file() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    commented = set(re.findall(r"^# (\w+) = ", text, flags=re.MULTILINE))
    assert commented == CHOSEN_BY_THE_MACHINE | NONE_UNLESS_GIVEN
    assert set(tomllib.loads(text)) | commented == set(Config.model_fields)


def test_flags_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('bind = "tcp://127.0.0.1:1"\nmax_scans = 3\n')
    config = load(file, bind="tcp://127.0.0.1:2", data_dir=None)
    assert (config.bind, config.max_scans) == ("tcp://127.0.0.1:2", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flush_intervall_s = 1", "did you mean 'flush_interval_s'"),
        ("flush_interval_s = 0", "flush_interval_s = 0"),
        ('memory_budget_mb = "much"', "memory_budget_mb"),
        ('bind = "127.0.0.1"', "tcp://127.0.0.1:5755"),
        ("max_block_mb = 32", "credit_window_mb = 16"),
        ("not toml", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("bind", "allow_insecure", "allowed"),
    [
        ("tcp://127.0.0.1:0", False, True),
        ("tcp://127.0.0.2:5755", False, True),
        ("tcp://[::1]:0", False, True),
        ("tcp://localhost:0", False, True),
        ("tcp://0.0.0.0:5755", False, False),
        ("tcp://*:5755", False, False),
        ("tcp://192.168.1.2:5755", False, False),
        ("tcp://localhost.evil.example:1", False, False),
        ("tcp://127.0.0.1.evil.example:1", False, False),
        ("tcp://*:5755", True, True),
    ],
)
def test_listening_beyond_this_machine_must_be_asked_for(
    bind: str, allow_insecure: bool, allowed: bool
) -> None:
    config = Config(bind=bind, allow_insecure=allow_insecure)
    if allowed:
        config.require_safe_bind()
    else:
        with pytest.raises(ConfigError, match="allow_insecure"):
            config.require_safe_bind()
