"""A daemon with keys, at an address that is not the usual one: the known scan, nobody else does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import zmq

import usidstream
from support.daemon import Daemon, command, wait_for
from support.keys import Keys
from support.rawpeer import RawPeer
from usidstream import wire
from usidstream.errors import DeliveryError
from usidstream.keys import ClientKeys
from usidstream.layout import Dimension, MainLayout, ScanLayout

ADDRESS = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # elsewhere it has to be set up
N_ROWS, N_COLS = 12, 5
ANSWER_TIMEOUT_S = 30.0
DATA = np.arange(N_ROWS * N_COLS, dtype="f4").reshape(N_ROWS, N_COLS)
LAYOUT = ScanLayout(
    positions=[Dimension("X", "um", N_ROWS)],
    mains=[
        MainLayout(
            name="Raw",
            quantity="Current",
            units="nA",
            dtype="float32",
            spectroscopic=[Dimension("Bias", "V", N_COLS)],
        )
    ],
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "k", "afm", "raman", "leaver")


@pytest.fixture(scope="module")
def daemon(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    data_dir = tmp_path_factory.mktemp("keyed") / "data"
    daemon = Daemon(data_dir, server_key_file=keys.server_key_file)
    daemon.endpoint = f"tcp://{ADDRESS}:0"
    with daemon:
        yield daemon
    assert "Traceback" not in daemon.log


def scan(endpoint: str, file: str, **keys: Path) -> usidstream.ScanResult:
    with usidstream.connect(endpoint, **keys) as client, client.open_scan(LAYOUT, file) as scan:
        scan.write_block(0, DATA)
        scan.finish()
    return scan.result


def refused_from(daemon: Daemon, address: str) -> bool:
    told = daemon.events("connections_refused")
    return any(line["last_address"].startswith(address) for line in told)


def leavers(daemon: Daemon, event: str) -> int:
    return sum("leaver" in line["clients"] for line in daemon.events(event))


def test_a_known_client_scans(daemon: Daemon, keys: Keys) -> None:
    result = scan(daemon.endpoint, "known", **keys.of("afm"))
    assert result.status == "complete"
    with h5py.File(result.file) as file:
        np.testing.assert_array_equal(file["Measurement_000/Raw"][()], DATA)


def test_clients_are_called_as_their_keys_are_whatever_they_say(daemon: Daemon, keys: Keys) -> None:
    with (
        usidstream.connect(daemon.endpoint, **keys.of("afm")) as client,
        usidstream.connect(daemon.endpoint, **keys.of("raman")),
    ):
        assert client.status()["daemon"]["client_names"] == ["afm", "raman"]


def test_an_unknown_client_gets_nothing(daemon: Daemon, keys: Keys, tmp_path: Path) -> None:
    stranger = Keys(tmp_path / "k", "afm").of("afm") | {"server_key": keys.of("afm")["server_key"]}
    with pytest.raises(DeliveryError) as raised:
        usidstream.connect(daemon.endpoint, timeout_s=1.0, **stranger)
    assert raised.value.code == "access_denied"
    assert "SIGHUP" in raised.value.hint
    wait_for(lambda: refused_from(daemon, "127.0.0"), "the log")


def test_neither_does_one_without_keys_or_with_another_daemon_s(
    daemon: Daemon, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(DeliveryError, match="asks for keys"):
        usidstream.connect(daemon.endpoint, timeout_s=1.0)
    other = Keys(tmp_path / "k", "afm")
    wrong = keys.of("afm") | {"server_key": other.of("afm")["server_key"]}
    with pytest.raises(DeliveryError, match="expects other keys"):
        usidstream.connect(daemon.endpoint, timeout_s=1.0, **wrong)


def test_what_strangers_send_reaches_nothing(daemon: Daemon, keys: Keys) -> None:
    """The same hello that a client sends, with no keys and over a plain TCP connection."""
    files = sorted(daemon.data_dir.iterdir())
    peer = RawPeer(daemon.endpoint, hello=False)
    peer.send(wire.Hello(versions=[1], client="stranger"))
    assert peer.receive(1.0) is None
    peer.vanish()
    host, port = daemon.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 1000)
        connection.settimeout(20.0)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(4096):
                answer += piece
    assert len(answer) <= 64  # the greeting of ZeroMQ, which tells its version alone
    assert scan(daemon.endpoint, "after", **keys.of("afm")).status == "complete"
    assert [path for path in sorted(daemon.data_dir.iterdir()) if "after" not in path.name] == files


def test_a_daemon_without_keys_is_not_taken_for_one_with(keys: Keys, tmp_path: Path) -> None:
    with (
        Daemon(tmp_path / "data") as plain,
        pytest.raises(DeliveryError, match=r"uses no keys|other keys"),
    ):
        usidstream.connect(plain.endpoint, timeout_s=1.0, **keys.of("afm"))


def test_the_commands_take_keys_as_options_and_from_the_environment(
    daemon: Daemon, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--{name.replace('_', '-')}={path}" for name, path in keys.of("raman").items()]
    told = command("usidstream", "status", "--to", daemon.endpoint, *options)
    assert told.returncode == 0, told.stderr
    for name, path in keys.of("raman").items():
        monkeypatch.setenv(f"USIDSTREAM_{name.upper()}", str(path))
    told = command("usidstream", "simulate", "afm", "--size=8x8", "--to", daemon.endpoint)
    assert told.returncode == 0, told.stderr
    # The daemon's own variables begin likewise; these two must not keep one from starting.
    assert command("usidstreamd", "check-config").returncode == 0


def test_one_whose_key_is_taken_away_is_out_at_once_and_the_others_stay(
    daemon: Daemon, keys: Keys
) -> None:
    file = keys.listed / "leaver.key"
    aside = keys.directory / "leaver.key"
    with (  # noqa: PT012 - whichever call meets the refusal first
        usidstream.connect(daemon.endpoint, **keys.of("afm")) as stays,
        pytest.raises(DeliveryError) as raised,
        usidstream.connect(daemon.endpoint, **keys.of("leaver")) as leaver,
        leaver.open_scan(LAYOUT, "left") as scan,
    ):
        scan.write_block(0, DATA[:2])
        scan.wait_durable(timeout_s=20)
        file.rename(aside)
        daemon.send(signal.SIGHUP)
        wait_for(lambda: leavers(daemon, "keys_withdrawn"), "the keys to be read")
        assert stays.status()["daemon"]["client_names"] == ["afm"]
        scan.write_block(2, DATA[2:])
        scan.wait_durable(timeout_s=20)
    assert raised.value.code == "access_denied"
    with pytest.raises(DeliveryError) as raised:
        usidstream.connect(daemon.endpoint, timeout_s=1.0, **keys.of("leaver"))
    assert raised.value.code == "access_denied"

    aside.rename(file)  # back again, the scan goes on where it was
    daemon.send(signal.SIGHUP)
    wait_for(lambda: leavers(daemon, "keys_admitted"), "the keys to be read")
    with usidstream.connect(daemon.endpoint, **keys.of("leaver")) as client:
        with client.open_scan(LAYOUT, "left", scan.scan_id) as again:
            for row, spectrum in enumerate(DATA):
                again.write(row, spectrum)
        assert again.skipped == 2
        assert again.result.status == "complete"


class Viewer:
    """A SUB socket that listens to the daemon's heartbeat."""

    def __init__(self, endpoint: str, keys: ClientKeys | None) -> None:
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.subscribe(wire.DAEMON_TOPIC)
        if keys is not None:
            keys.secure(self._socket)
        self._socket.connect(endpoint)

    def hears(self, within_s: float) -> bool:
        if not self._socket.poll(int(within_s * 1000)):
            return False
        return isinstance(wire.decode_telemetry(self._socket.recv_multipart())[1], wire.Heartbeat)

    def forget(self) -> None:
        while self._socket.poll(0):
            self._socket.recv_multipart()

    def close(self) -> None:
        self._socket.close()


def test_telemetry_is_for_known_viewers_too_and_for_none_whose_key_is_gone(
    daemon: Daemon, keys: Keys, tmp_path: Path
) -> None:
    stranger = Keys(tmp_path / "k", "afm").of("afm") | {"server_key": keys.of("afm")["server_key"]}
    with usidstream.connect(daemon.endpoint, **keys.of("afm")) as client:
        port = client.status()["daemon"]["ports"]["telemetry"]
    endpoint = f"tcp://{ADDRESS}:{port}"
    given = [keys.of("afm"), keys.of("leaver"), stranger]
    stays, leaver, unknown = (Viewer(endpoint, ClientKeys.load(**of)) for of in given)
    without = Viewer(endpoint, None)
    assert stays.hears(20.0)
    assert leaver.hears(20.0)
    file = keys.listed / "leaver.key"
    lines = leavers(daemon, "keys_withdrawn")
    file.rename(keys.directory / "leaver.aside")
    daemon.send(signal.SIGHUP)
    wait_for(lambda: leavers(daemon, "keys_withdrawn") > lines, "the keys to be read")
    leaver.forget()
    stays.forget()
    assert stays.hears(20.0)  # over a new connection, by itself
    leaver.forget()  # what was on its way
    assert stays.hears(20.0)
    assert not leaver.hears(0.5)
    assert not unknown.hears(0.0)
    assert not without.hears(0.0)
    (keys.directory / "leaver.aside").rename(file)
    lines = leavers(daemon, "keys_admitted")
    daemon.send(signal.SIGHUP)
    wait_for(lambda: leavers(daemon, "keys_admitted") > lines, "the keys")
    again = Viewer(endpoint, ClientKeys.load(**keys.of("leaver")))
    assert again.hears(20.0)
    for viewer in (stays, leaver, again, unknown, without):
        viewer.close()


def test_nobody_takes_the_place_of_another_s_connection(daemon: Daemon, keys: Keys) -> None:
    """Neither by its instance nor by the name that the transport has for it."""
    one = Keyed(daemon.endpoint, keys, "afm", b"same")
    one.send(wire.Hello(versions=[1], client="x", instance="lab"))
    assert isinstance(one.receive(), wire.Welcome)
    two = Keyed(daemon.endpoint, keys, "raman", b"same")  # the name goes to who comes first
    with usidstream.connect(daemon.endpoint, **keys.of("leaver")):
        other = Keyed(daemon.endpoint, keys, "raman", b"other")
        other.send(wire.Hello(versions=[1], client="x", instance="lab"))
        assert isinstance(other.receive(), wire.Welcome)
        one.send(wire.Ping())
        assert isinstance(one.receive(), wire.Pong)  # still there
        one.close()
        two.send(wire.Ping())  # over a connection that has the name of the one that is gone
        answer = two.receive(1.0)
        while answer is None:  # ZeroMQ gives the name away only when the first has gone
            two.close()
            two = Keyed(daemon.endpoint, keys, "raman", b"same")
            two.send(wire.Ping())
            answer = two.receive(1.0)
        assert isinstance(answer, wire.Error)
        assert answer.code == "no_session"
        two.close()
        other.close()


class Keyed:
    """A bare socket with keys and a routing id of its choice."""

    def __init__(self, endpoint: str, keys: Keys, client: str, routing_id: bytes) -> None:
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self._socket.setsockopt(zmq.LINGER, 0)
        loaded = ClientKeys.load(**keys.of(client))
        assert loaded is not None
        loaded.secure(self._socket)
        self._socket.connect(endpoint)

    def send(self, message: wire.Message) -> None:
        self._socket.send_multipart(wire.encode(message))

    def receive(self, timeout_s: float = ANSWER_TIMEOUT_S) -> wire.Message | None:
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        return wire.decode_daemon(self._socket.recv_multipart())

    def close(self) -> None:
        self._socket.close()


def test_damaged_keys_keep_a_daemon_from_starting_and_check_config_says_why(
    keys: Keys, tmp_path: Path
) -> None:
    broken = Keys(tmp_path / "k", "afm")
    (broken.listed / "afm.key").write_text("nonsense")
    config = tmp_path / "c.toml"
    config.write_text(f'server_key_file = "{broken.server_key_file}"\ndata_dir = "{tmp_path}/d"\n')
    for arguments in (("check-config", config), ("serve", "--config", config)):
        told = command("usidstreamd", *arguments)
        assert told.returncode == 1
        assert "afm.key holds no public key" in told.stdout + told.stderr
    assert not (tmp_path / "d" / ".usidstream" / "finished").exists()


def test_a_network_address_needs_keys_or_the_operator_s_word(keys: Keys, tmp_path: Path) -> None:
    told = command("usidstreamd", "serve", "--bind=tcp://0.0.0.0:0", f"--data-dir={tmp_path}/d")
    assert told.returncode == 2
    assert "server_key_file" in told.stderr
    insecure = Daemon(tmp_path / "insecure", allow_insecure=True)
    insecure.endpoint = "tcp://0.0.0.0:0"
    with insecure:
        wait_for(lambda: insecure.events("open_to_all"), "the warning")
    secure = Daemon(tmp_path / "secure", server_key_file=keys.server_key_file)
    secure.endpoint = "tcp://0.0.0.0:0"
    with secure:
        pass
    assert not secure.events("open_to_all")


@pytest.mark.skipif(os.name != "posix", reason="modes mean nothing on Windows")
def test_a_secret_that_others_can_read_is_told(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "k", "afm")
    keys.server_key_file.chmod(0o644)
    with Daemon(tmp_path / "data", server_key_file=keys.server_key_file) as daemon:
        wait_for(lambda: daemon.events("key_readable"), "the warning")


NAMESPACE_SCRIPT = """
import sys, usidstream
from usidstream.errors import DeliveryError
endpoint, server_key, known, unknown = sys.argv[1:]
with usidstream.connect(endpoint, server_key=server_key, key_file=known) as client:
    print(client.status()["daemon"]["client_names"])
for keys in ({}, {"server_key": server_key, "key_file": unknown}):
    try:
        usidstream.connect(endpoint, timeout_s=1.0, **keys)
    except DeliveryError as error:
        print(error.code)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="network namespaces need root on Linux"
)
def test_over_a_network_from_another_machine(keys: Keys, tmp_path: Path) -> None:
    """A namespace of the network with a cable between: the daemon here, the client there."""
    name = f"usid{os.getpid() % 100000}"
    here, there = f"{name}a", f"{name}b"
    ip = ["ip"]
    made = subprocess.run([*ip, "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespaces here: {made.stderr}")
    try:
        setup = [
            f"link add {here} type veth peer name {there} netns {name}",
            f"addr add 198.18.77.1/30 dev {here}",
            f"link set {here} up",
            f"-n {name} addr add 198.18.77.2/30 dev {there}",
            f"-n {name} link set {there} up",
        ]
        for line in setup:
            done = subprocess.run([*ip, *line.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no veth here: {done.stderr}")
        daemon = Daemon(tmp_path / "data", server_key_file=keys.server_key_file)
        daemon.endpoint = "tcp://198.18.77.1:0"
        unknown = Keys(tmp_path / "k", "unknown").of("unknown")["key_file"]
        with daemon:
            words = ["ip", "netns", "exec", name, sys.executable, "-c", NAMESPACE_SCRIPT]
            words += [daemon.endpoint, *map(str, keys.of("afm").values()), str(unknown)]
            told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
            assert told.stdout.split("\n") == ["['afm']", "timeout", "access_denied", ""], told
            wait_for(lambda: refused_from(daemon, "198.18.77.2"), "the refusal in the log")
    finally:
        subprocess.run([*ip, "link", "del", here], capture_output=True, check=False)
        subprocess.run([*ip, "netns", "del", name], capture_output=True, check=False)
