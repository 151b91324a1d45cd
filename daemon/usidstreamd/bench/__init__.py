"""What this machine and disk sustain, measured from outside.

A daemon is started as users start it and fed by the client that users use, each in a process of its
own; then the same blocks go, over the same socket and protocol, to references that write them as
they would be written without this project. The package knows processes, clocks and files; it never
reaches into a running daemon, and nothing in the daemon knows that it is being measured.

``plan.run_bench`` measures, ``report.report_in_words`` tells. Nothing is imported here, for every
worker process would pay for it.
"""
