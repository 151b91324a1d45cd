"""The mailbox wakes a poller once, keeps order, and loses nothing between threads."""

from __future__ import annotations

import threading

import zmq

from usidstreamd.mailbox import Mailbox


def test_posts_from_many_threads_all_arrive_in_each_thread_s_order() -> None:
    mailbox = Mailbox()
    threads = [
        threading.Thread(target=lambda t=t: [mailbox.post((t, i)) for i in range(500)])
        for t in range(4)
    ]
    poller = zmq.Poller()
    poller.register(mailbox.fileno(), zmq.POLLIN)
    for thread in threads:
        thread.start()
    seen: list[tuple[int, int]] = []
    while len(seen) < 2000:
        assert poller.poll(5000), f"only {len(seen)} arrived"
        seen += mailbox.drain()
    for thread in threads:
        thread.join()
    for t in range(4):
        assert [i for thread, i in seen if thread == t] == list(range(500))
    assert not poller.poll(0), "nothing is left to wake for"
    mailbox.close()
