"""Supervision: whether instruments send, whether disks answer, and who is told of it.

``arrivals`` and ``operations`` are the rules, pure: from counts and a clock to "it has stalled".
``happenings`` names what a command is run for, ``rationing`` how often, and ``hook`` runs it.
``iowatch`` is the thread that looks at the others. ``supervisor`` ties them to the scans. Nothing
here ends a scan, or holds one up: an instrument that is silent may be at work.
"""

from .iowatch import IoWatch
from .supervisor import Supervisor

__all__ = ["IoWatch", "Supervisor"]
