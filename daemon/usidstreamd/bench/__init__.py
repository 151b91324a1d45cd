"""What this machine and disk sustain, measured from outside.

A daemon is started as users start it and fed by the client that users use, each in a process of its
own; then the same blocks go, over the same socket and protocol, to references that write them as
they would be written without this project. The package knows processes, clocks and files; it never
reaches into a running daemon, and nothing in the daemon knows that it is being measured.
"""

from .figures import BenchError
from .plan import MIN_COMPARED_ROUNDS, Options, run_bench
from .report import report_in_words

__all__ = ["MIN_COMPARED_ROUNDS", "BenchError", "Options", "report_in_words", "run_bench"]
