"""The daemon's configuration: what the options are, where their values come from, and its check.

`model` names every option with its text, default and bounds; `sources` lays flags over environment
over file over defaults; `prospects` looks at what a start would meet; `check` tells
both; `reference` writes the model down for people and editors. Only `sources` reads files and
variables, only `prospects` looks at the disk.
"""

from .check import ConfigReport, check
from .model import Config, ConfigError, default_codec_threads, default_data_dir
from .sources import load

__all__ = [
    "Config",
    "ConfigError",
    "ConfigReport",
    "check",
    "default_codec_threads",
    "default_data_dir",
    "load",
]
