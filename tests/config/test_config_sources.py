"""Flags over environment over file over defaults; and whatever is wrong is told with its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from usidstreamd.config import Config, ConfigError, load
from usidstreamd.config.model import require
from usidstreamd.config.sources import gather


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "c.toml"


def problems_of(path: Path | None, environ: dict[str, str], **flags: Any) -> list[str]:
    gathered = gather(path, environ=environ, **flags)
    assert (gathered.config is None) == bool(gathered.problems)
    return [problem.message for problem in gathered.problems]


def test_the_last_source_wins(file: Path) -> None:
    file.write_text('bind = "tcp://127.0.0.1:1"\nmax_scans = 3\nmax_clients = 5\n')
    environ = {"USIDSTREAM_BIND": "tcp://127.0.0.1:2", "USIDSTREAM_MAX_SCANS": "4", "HOME": "/"}
    gathered = gather(file, environ=environ, bind="tcp://127.0.0.1:3", data_dir=None)
    config, sources = gathered.config, {k: str(v) for k, v in gathered.sources.items()}
    assert config == Config(bind="tcp://127.0.0.1:3", max_scans=4, max_clients=5)
    assert set(sources) == set(Config.model_fields)
    assert sources["bind"] == "--bind"
    assert sources["max_scans"] == "USIDSTREAM_MAX_SCANS"
    assert sources["max_clients"] == str(file)
    assert sources["data_dir"] == "default"


def test_every_option_can_be_a_variable() -> None:
    wanted = Config(
        data_dir=Path("/somewhere"),
        file_mode="0600",
        bind="tcp://[::1]:0",
        telemetry=5757,
        dashboard=5759,
        allow_insecure=True,
        server_key_file=Path("/keys/server.key_secret"),
        client_keys_dir=Path("/keys/clients"),
        dashboard_key_file=Path("/keys/dashboard.key_secret"),
        memory_budget_mb=129,
        credit_window_mb=17,
        max_block_mb=9,
        max_layout_mb=257,
        disk_reserve_mb=513,
        row_segment_mb=65,
        max_clients=65,
        max_scans=17,
        max_connections_per_client=17,
        max_scans_per_client=9,
        client_rate_mb_per_s=1.5,
        codec_threads=9,
        commit_interval_s=0.06,
        flush_interval_s=6.0,
        join_timeout_s=61.0,
        peer_silence_s=31.0,
        resume_timeout_s=259201.0,
        stall_floor_s=62.0,
        stall_factor=11.0,
        io_stall_s=12.0,
        on_event=["/bin/tell me", '"that"'],
        on_event_timeout_s=31.0,
        shutdown_timeout_s=61.0,
        metrics=9191,
        metrics_token_file=Path("/somewhere/token"),
        log_level="debug",
        log_format="console",
    )
    assert wanted.model_fields_set == set(Config.model_fields)
    environ = {f"USIDSTREAM_{k.upper()}": str(v) for k, v in wanted.model_dump().items()}
    assert load(None, environ=environ) == wanted


def test_one_word_is_a_list_without_brackets() -> None:
    assert load(None, environ={"USIDSTREAM_ON_EVENT": "/bin/tell me"}).on_event == ["/bin/tell me"]
    assert load(None, environ={"USIDSTREAM_ON_EVENT": ""}).on_event == []


def test_variables_of_the_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USIDSTREAM_MAX_SCANS", "7")
    assert load(None).max_scans == 7


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("USIDSTREAM_LOG_FORMAT", "xml", '"xml" must be "auto" or "console" or "json" (default:'),
        ("USIDSTREAM_MAX_SCANS", "many", '"many" must be a whole number from 1 to 1024'),
        ("USIDSTREAM_MAX_SCANS", "1.5", '"1.5" must be a whole number'),
        ("USIDSTREAM_MAX_SCANS", "", '"" must be a whole number'),
        ("USIDSTREAM_PEER_SILENCE_S", "nan", "nan must be a number over 0, up to 31536000"),
        ("USIDSTREAM_RESUME_TIMEOUT_S", "inf", "inf must be a number"),
        ("USIDSTREAM_ALLOW_INSECURE", "yes", '"yes" must be true or false (default: false)'),
        ("USIDSTREAM_ON_EVENT", '["tell', "must be a list of words, such as"),
        ("USIDSTREAM_ON_EVENT", "[1]", "must be a list of words, such as"),
        ("USIDSTREAM_ON_EVENT", '[""]', "must begin with a program, such as"),
        ("USIDSTREAM_DATA_DIR", "", "must name a directory"),
        ("USIDSTREAM_BIND", "tcp://127.0.0.1:65536", "must look like tcp://127.0.0.1:5755"),
    ],
)
def test_a_bad_variable_is_named(name: str, text: str, told: str) -> None:
    (message,) = problems_of(None, {name: text})
    assert message.startswith(f"{name} = ")
    assert told in message


def test_an_unknown_variable_is_refused_and_others_are_not_ours() -> None:
    environ = {"USIDSTREAM_MAX_SCAN": "1", "USIDSTREAMER": "x", "PATH": "/bin"}
    (message,) = problems_of(None, environ)
    assert message == "unknown variable 'USIDSTREAM_MAX_SCAN', did you mean 'USIDSTREAM_MAX_SCANS'?"


def test_a_flag_is_named() -> None:
    (message,) = problems_of(None, {}, bind="5755")
    assert message.startswith('--bind = "5755" must look like tcp://')


def test_everything_wrong_is_told_at_once(file: Path) -> None:
    file.write_text(
        'max_scans = 0\nflush_intervall_s = 1\nmemory_budget_mb = "3"\n[server]\nbind = 1'
    )
    messages = problems_of(file, {"USIDSTREAM_MAX_CLIENTS": "0"}, bind="x")
    assert len(messages) == 6
    with pytest.raises(ConfigError) as caught:
        load(file, environ={"USIDSTREAM_MAX_CLIENTS": "0"}, bind="x")
    text = str(caught.value)
    assert all(message in text for message in messages)
    assert f"{file}: max_scans = 0 must be a whole number from 1 to 1024 (default: 16)" in text
    assert "[server] is not wanted: all options stand at the top" in text
    assert "Value error" not in text
    assert "Input should" not in text


@pytest.mark.parametrize(
    "line", ['max_scans = "3"', "max_scans = true", "bind = 3", "data_dir = 3"]
)
def test_values_of_the_wrong_kind_are_refused(file: Path, line: str) -> None:
    file.write_text(line)
    (message,) = problems_of(file, {})
    assert message.startswith(f"{file}: {line} must be ")


def test_limits_that_contradict_each_other_are_refused_though_one_is_a_default(file: Path) -> None:
    file.write_text("credit_window_mb = 4")
    (message,) = problems_of(file, {})
    assert message == (
        "default of max_block_mb = 8 must not exceed credit_window_mb = 4; lower it, or raise that"
    )
    file.write_text("credit_window_mb = 4\nmax_block_mb = 4")
    assert problems_of(file, {}) == []


def test_a_byte_order_mark_does_no_harm(file: Path) -> None:
    file.write_text("max_scans = 3", encoding="utf-8-sig")
    assert load(file, environ={}).max_scans == 3


def test_a_long_value_is_not_told_at_length(file: Path) -> None:
    file.write_text(f'max_scans = "{"x" * 10_000}"')
    (message,) = problems_of(file, {})
    assert len(message) < 500


def test_an_unsafe_bind_is_told_with_its_source() -> None:
    (message,) = problems_of(None, {"USIDSTREAM_BIND": "tcp://0.0.0.0:1"})
    assert message.startswith("USIDSTREAM_BIND: bind = 'tcp://0.0.0.0:1' would let anyone")
    assert "allow_insecure" in message


def test_the_home_directory_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load(None, environ={"USIDSTREAM_DATA_DIR": "~/scans"}).data_dir == tmp_path / "scans"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("join_timeout_s", "must be a number from 0 to 31536000 (default: 60.0)"),
        ("commit_interval_s", "must be a number over 0, up to 60 (default: 0.05)"),
        ("codec_threads", "must be a whole number from 1 to 64"),
        ("data_dir", "must be a string"),
    ],
)
def test_what_an_option_must_be_is_said_in_words(option: str, words: str) -> None:
    assert require(option) == words
