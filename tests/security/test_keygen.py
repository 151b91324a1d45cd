"""Key files: private from the first moment, never overwritten, and never a path."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
import zmq.auth

from support.daemon import command
from usidstream.errors import UsidstreamError
from usidstream.keys import ClientKeys, read_key_file
from usidstreamd.security import create_keys, read_allow_list
from usidstreamd.security.keygen import create_client_keys, is_client_name


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_keygen_makes_a_pair_for_the_daemon_and_each_client(tmp_path: Path) -> None:
    told = command("usidstreamd", "keygen", tmp_path / "k", "--client", "afm", "--client", "be")
    assert told.returncode == 0, told.stderr
    made = [Path(line).relative_to(tmp_path / "k") for line in told.stdout.splitlines()]
    assert sorted(map(str, made)) == [
        *("afm.key_secret", "be.key_secret", "clients/afm.key", "clients/be.key"),
        *("server.key", "server.key_secret"),
    ]
    server = read_key_file(tmp_path / "k/server.key_secret")
    assert server.secret is not None
    assert zmq.curve_public(server.secret.encode()).decode() == server.public
    assert read_key_file(tmp_path / "k/server.key").secret is None
    allowed = read_allow_list(tmp_path / "k/clients")
    assert sorted(allowed.names.values()) == ["afm", "be"]
    assert not allowed.faults


@pytest.mark.skipif(os.name != "posix", reason="modes mean nothing on Windows")
def test_nobody_else_may_read_any_of_it_whatever_the_umask_is(tmp_path: Path) -> None:
    # In a process of its own: the umask is the whole process's.
    code = "import sys, os; os.umask(0); from pathlib import Path\n"
    code += (
        "from usidstreamd.security import create_keys; list(create_keys(Path(sys.argv[1]), ['a']))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "k")], check=True)
    for path in (tmp_path / "k", *(tmp_path / "k").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    list(create_keys(tmp_path, ["afm"]))
    before = snapshot(tmp_path)
    for arguments in ([], ["--client", "afm"]):
        told = command("usidstreamd", "keygen", tmp_path, *arguments)
        assert told.returncode == 1
        assert "exists already, nothing was changed" in told.stderr
    assert snapshot(tmp_path) == before
    (tmp_path / "clients/afm.key").unlink()  # a client that was thrown out keeps its secret
    with pytest.raises(UsidstreamError, match=r"afm\.key_secret exists"):
        create_client_keys(tmp_path, "afm")


def test_a_public_part_that_is_missing_is_made_again(tmp_path: Path) -> None:
    list(create_keys(tmp_path, []))
    before = snapshot(tmp_path)
    (tmp_path / "server.key").unlink()
    assert list(create_keys(tmp_path, [])) == [tmp_path / "server.key"]
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", ".", "../afm", "/etc/afm", "a/b", "a\\b", ".hidden", "-o", "a b", "a\0b", "é"),
        *("con", "NUL.key", "com1", "server", "Server", "x" * 65, "a\n"),
    ],
)
def test_a_client_s_name_is_never_a_path_and_a_file_s_name_anywhere(
    tmp_path: Path, name: str
) -> None:
    assert not is_client_name(name)
    with pytest.raises(UsidstreamError) as raised:
        create_client_keys(tmp_path / "k", name)
    assert raised.value.code == "bad_name"
    assert not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "no public key"),
        (b"\xff\x00" * 100, "no public key"),
        (b'public-key = "short"', "not 40 characters"),
        (b'public-key = "' + b"~" * 40 + b'"', "not 40 characters"),
        (b"x" * 100_000, "too large"),
    ],
)
def test_a_damaged_key_file_is_named_and_not_shown(
    tmp_path: Path, text: bytes, problem: str
) -> None:
    file = tmp_path / "bad.key"
    file.write_bytes(text)
    with pytest.raises(UsidstreamError, match=problem) as raised:
        read_key_file(file)
    assert raised.value.code == "bad_keys"
    assert str(file) in raised.value.message


def test_two_halves_of_different_pairs_are_no_key(tmp_path: Path) -> None:
    (one, _), (_, other) = zmq.curve_keypair(), zmq.curve_keypair()
    text = f'public-key = "{one.decode()}"\nsecret-key = "{other.decode()}"\n'
    (tmp_path / "mixed.key_secret").write_text(text)
    with pytest.raises(UsidstreamError, match="not of one pair") as raised:
        read_key_file(tmp_path / "mixed.key_secret")
    assert other.decode() not in str(raised.value)


def test_pyzmq_s_own_key_files_work(tmp_path: Path) -> None:
    zmq.auth.create_certificates(tmp_path, "afm")
    assert read_key_file(tmp_path / "afm.key_secret").secret is not None
    list(create_keys(tmp_path / "k", ["be"]))
    assert zmq.auth.load_certificate(tmp_path / "k/be.key_secret")[1] is not None


def test_a_client_needs_both_keys_and_its_secret_one(tmp_path: Path) -> None:
    list(create_keys(tmp_path, ["afm"]))
    server, own = tmp_path / "server.key", tmp_path / "afm.key_secret"
    assert ClientKeys.load(None, None) is None
    for arguments in ((server, None), (None, own)):
        with pytest.raises(UsidstreamError, match="is missing: keys need both"):
            ClientKeys.load(*arguments)
    with pytest.raises(UsidstreamError, match="holds no secret key"):
        ClientKeys.load(server, tmp_path / "clients/afm.key")
    with pytest.raises(UsidstreamError, match="cannot be read: No such file"):
        ClientKeys.load(tmp_path / "nowhere.key", own)
    of_file = ClientKeys.load(server, own)
    assert of_file == ClientKeys.load(read_key_file(server).public, own)
    assert of_file is not None
    assert of_file.secret not in repr(of_file)
