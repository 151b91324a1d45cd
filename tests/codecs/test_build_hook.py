"""The compiled module is of this source, or there is none."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from setuptools.errors import BaseError, CCompilerError

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "daemon/usidstreamd/codecs/_planes.c"

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler (Debian: gcc)"),
    pytest.mark.skipif(not (ROOT / "hatch_build.py").exists(), reason="needs the source tree"),
]


@pytest.fixture
def hook() -> Any:
    pytest.importorskip("hatchling", reason="builds the package; pip install hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A source tree with a small module instead of ours: it is compiled in a moment."""
    source = tmp_path / SOURCE.relative_to(ROOT)
    source.parent.mkdir(parents=True)
    write_source(source, 1)
    return tmp_path


def write_source(path: Path, answer: int) -> None:
    path.write_text(
        "#include <Python.h>\n"
        f"static PyMethodDef methods[] = {{{{NULL, NULL, {answer}, NULL}}}};\n"
        'static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_planes", NULL, 0, methods};\n'
        "PyMODINIT_FUNC PyInit__planes(void) { return PyModule_Create(&module); }\n"
        f'const char *answer = "the answer is {answer}";\n'
    )


def test_a_source_with_an_old_time_is_compiled_all_the_same(hook: Any, root: Path) -> None:
    first = hook.compile_into(root / "daemon", root)
    assert b"the answer is 1" in first.read_bytes()
    source = root / SOURCE.relative_to(ROOT)
    write_source(source, 2)
    os.utime(source, (0, 0))
    assert hook.compile_into(root / "daemon", root) == first
    assert b"the answer is 2" in first.read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="names a compiler as Unix does")
@pytest.mark.parametrize("compiler", ["false", "true", "no-such-compiler"])
def test_a_compiler_that_fails_leaves_no_module(
    hook: Any, root: Path, monkeypatch: pytest.MonkeyPatch, compiler: str
) -> None:
    path = hook.compile_into(root / "daemon", root)
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("LDSHARED", compiler)
    with pytest.raises((BaseError, CCompilerError)):
        hook.compile_into(root / "daemon", root)
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="names a compiler as Unix does")
@pytest.mark.parametrize("version", ["editable", "standard"])
@pytest.mark.parametrize("compiler", ["false", "true"])
def test_an_installation_without_a_working_compiler_warns_and_has_no_module(
    hook: Any, root: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, version: str
) -> None:
    stale = hook.compile_into(root / "daemon", root)
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("LDSHARED", compiler)
    warnings: list[str] = []
    app = SimpleNamespace(display_warning=warnings.append)
    build_data: dict[str, Any] = {"force_include": {}}
    planes = hook.CompiledPlanes(str(root), {}, None, None, str(root / "dist"), "wheel", app)
    planes.initialize(version, build_data)
    assert "were not compiled" in "".join(warnings)
    assert build_data == {"force_include": {}}
    assert stale.exists() == (version != "editable")


def test_modules_of_other_pythons_are_in_no_package(tmp_path: Path) -> None:
    """Also where a source tree came without its .gitignore."""
    builders = pytest.importorskip("hatchling.builders.wheel", reason="pip install hatchling")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("_planes.c", "_planes.cpython-30-x86_64-linux-gnu.so", "_planes.cp30-win32.pyd"):
        path = tmp_path / SOURCE.relative_to(ROOT).with_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    packed = builders.WheelBuilder(str(tmp_path)).recurse_included_files()
    assert {Path(file.distribution_path).name for file in packed} == {"_planes.c"}
