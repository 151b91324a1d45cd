"""The daemon: one loop that serves all clients, and what hangs on it.

``server`` turns the loop, ``waking`` is what it sleeps on, ``stopping`` how it ends, and ``parts``
puts together all that has a turn. ``reception`` takes messages in and decides whose may be read,
``requests`` does what they ask for, ``opening`` judges layouts, ``answers`` sends what comes of it.
``presence`` knows who comes and goes, ``scans`` holds the scans, ``shop`` makes what they share,
and ``standing`` tells how all that is. What a scan does is its session's affair; nothing here
touches an open file or waits for one.
"""

from .server import Server

__all__ = ["Server"]
