"""Compiles the codec's loops while the package is built; where it cannot, numpy does their work."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

SOURCE = Path("daemon/usidstreamd/codecs/_planes.c")
MODULE = "usidstreamd.codecs._planes"


def compile_into(folder: Path, root: Path) -> Path:
    """Compile the module; return its path, below a folder that stands for the daemon's packages.

    Whatever came of an earlier compilation goes before: a module of another source must not stay.

    Raises
    ------
    BaseError, CCompilerError
        It could not be compiled; the message says why.
    """
    # Microsoft's compiler optimises by setuptools' own flags. It is taken there, untried.
    optimised = [] if sys.platform == "win32" else ["-O3"]
    module = Extension(MODULE, [str(root / SOURCE)], extra_compile_args=optimised)
    command = build_ext(Distribution({"name": "usidstream", "ext_modules": [module]}))
    with tempfile.TemporaryDirectory() as objects:
        command.build_lib, command.build_temp, command.force = str(folder), objects, True
        command.ensure_finalized()
        path = Path(command.get_ext_fullpath(MODULE))
        path.unlink(missing_ok=True)
        command.run()
    if not path.is_file():
        raise CCompilerError("the compiler ended without an error, and without a module")
    return path


class CompiledPlanes(BuildHookInterface[Any]):
    """Adds the compiled module to a wheel; an editable install has it beside its source."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before anything is packed, or tell that it could not be done."""
        root = Path(self.root)
        self._folder = tempfile.TemporaryDirectory()  # until the wheel is packed
        folder = root / "daemon" if version == "editable" else Path(self._folder.name)
        try:
            path = compile_into(folder, root)
        except (BaseError, CCompilerError) as error:
            self.app.display_warning(
                f"The codec's loops were not compiled ({error}). Everything works without them, "
                "but compresses half as fast. To have them, install a C compiler and Python's "
                "headers (Debian: gcc python3-dev), then install this package again."
            )
            return
        build_data["pure_python"], build_data["infer_tag"] = False, True
        if version != "editable":
            build_data["force_include"][str(path)] = str(path.relative_to(folder))
