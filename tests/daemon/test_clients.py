"""Who is connected: hello first, limits kept, the silent forgotten, one instance one place."""

from __future__ import annotations

import pytest

from usidstream import wire
from usidstream.errors import UsidstreamError
from usidstreamd.clients import Clients, Identity, check_version

SCAN = "0" * 32


def hello(name: str = "afm", instance: str = "") -> wire.Hello:
    return wire.Hello(versions=[wire.VERSION], client=name, instance=instance)


def welcomed(*peers: bytes, instance: str = "", now: float = 0.0) -> Clients:
    clients = Clients()
    for peer in peers:
        clients.welcome(peer, hello(instance=instance), now, (99, 99))
    return clients


def test_nothing_is_heard_before_hello() -> None:
    clients = Clients()
    with pytest.raises(UsidstreamError, match="ping came before hello") as raised:
        clients.hear(b"a", wire.Ping(scan=SCAN), 0.0)
    assert raised.value.code == "no_session"
    assert len(clients) == 0  # what says no hello costs no memory
    clients.hear(b"a", hello(), 0.0)


def test_one_more_than_may_be_connected_is_refused_and_the_others_stay() -> None:
    clients = Clients()
    clients.welcome(b"a", hello("one"), 0.0, (1, 99))
    with pytest.raises(UsidstreamError) as raised:
        clients.welcome(b"b", hello("two"), 0.0, (1, 99))
    assert raised.value.code == "too_many_clients"
    assert b"a" in clients
    assert b"b" not in clients
    clients.welcome(b"a", hello("one again"), 1.0, (1, 99))
    assert clients[b"a"].name == "one again"


def test_whoever_is_silent_for_longer_than_the_limit_is_named_and_nobody_else() -> None:
    clients = welcomed(b"a", b"b")
    clients.hear(b"b", wire.Ping(scan=SCAN), 7.0)
    assert list(clients.silent(10.0, longest_s=10.0)) == []
    assert list(clients.silent(10.5, longest_s=10.0)) == [b"a"]
    for peer in clients.silent(18.0, longest_s=10.0):
        assert clients.forget(peer)
    assert len(clients) == 0
    assert not clients.forget(b"a")


def test_an_instance_s_earlier_connections_are_found_but_never_those_without_one() -> None:
    clients = welcomed(b"a", b"b", instance="lab-pc")
    clients.welcome(b"c", hello(instance="other"), 0.0, (99, 99))
    assert clients.earlier_connections(b"b", "lab-pc") == [b"a"]
    assert clients.earlier_connections(b"new", "lab-pc") == [b"a", b"b"]
    assert welcomed(b"a", b"b").earlier_connections(b"new", "") == []


def test_a_client_of_another_version_is_told_both() -> None:
    check_version(hello())
    with pytest.raises(UsidstreamError, match=r"speaks \[7\], this daemon 1") as raised:
        check_version(wire.Hello(versions=[7], client="", instance=""))
    assert raised.value.code == "unsupported_version"


def test_one_key_has_so_many_connections_and_others_as_many() -> None:
    clients, afm, raman = Clients(), Identity("k" * 40, "afm"), Identity("r" * 40, "raman")
    for peer in (b"a", b"b"):
        clients.welcome(peer, hello("says what it likes"), 0.0, (99, 2), afm)
    with pytest.raises(UsidstreamError, match="afm has 2 connections") as raised:
        clients.welcome(b"c", hello(), 0.0, (99, 2), afm)
    assert raised.value.code == "too_many_clients"
    clients.welcome(b"d", hello(), 0.0, (99, 2), raman)
    clients.welcome(b"a", hello(), 0.0, (99, 2), afm)  # hello again is no further connection
    assert clients.names() == ["afm", "afm", "raman"]
    assert clients.owner(b"a", afm) == clients.owner(b"b", afm) != clients.owner(b"d", raman)


def test_a_peer_s_name_with_another_key_is_another_peer() -> None:
    clients = Clients()
    clients.welcome(b"a", hello(instance="x"), 0.0, (9, 9), Identity("k", "afm"))
    with pytest.raises(UsidstreamError, match="before hello"):
        clients.hear(b"a", wire.Ping(scan=SCAN), 1.0, key="r")
    assert clients.earlier_connections(b"b", "x", "r") == []
    assert clients.earlier_connections(b"b", "x", "k") == [b"a"]
    assert list(clients.without_key(lambda key: key != "k")) == [b"a"]
