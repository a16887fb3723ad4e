"""Runs in Pyodide when the site is built: packs the modules that the calculator needs, compiled, into two archives.

``python.zip`` has the modules of the standard library, ``convspec.zip`` those of the project that need nothing else.
The page starts in less than half the time with them: there is less to load, and nothing to compile.
"""

from __future__ import annotations

import importlib
import importlib.util
import marshal
import sys
import zipfile
from pathlib import Path
from types import CodeType

LIBRARY = Path("/tmp/library")
PACKAGES = ("spec", "contract", "layers", "errors")  # of convspec: the others need NumPy
WHOLE = ("pyodide/", "_pyodide/")  # Pyodide's own packages import some of their modules late


def main(requests: list[dict[str, str]]) -> None:
    """Answer the page's examples, import whatever can be imported, and pack what is then in use."""
    import convspec
    from convspec.layers import calculate

    for request in requests:
        calculate(request["layer"], request.get("input", ""), request.get("layout", ""), request.get("in_channels", ""))
    root = Path(convspec.__file__).parents[1]
    own = [path for path in sorted(root.rglob("*")) if path.is_file() and _wanted(path.relative_to(root))]
    _pack(Path("/tmp/convspec.zip"), root, own)
    used = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    archive = next(path for path in sys.path if path.endswith(".zip"))
    with zipfile.ZipFile(archive) as library:
        library.extractall(LIBRARY)
        names = [name for name in library.namelist() if f"{archive}/{name}" in used or name.startswith(WHOLE)]
    _pack(Path("/tmp/python.zip"), LIBRARY, [LIBRARY / name for name in names if not name.endswith("/")])


def _wanted(path: Path) -> bool:
    """Return whether a file of the project belongs into the archive: a module only if it can be imported here."""
    if path.parts[0] == "convspec" and len(path.parts) > 2 and path.parts[1] not in PACKAGES:
        return False
    if path.suffix != ".py":
        return path.suffix != ".pyc" and path.name != "RECORD"
    try:
        importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
    except ImportError:  # NumPy, or a framework
        return False
    return True


def _pack(target: Path, root: Path, files: list[Path]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in files:
            name = path.relative_to(root).as_posix()
            if path.suffix == ".py":
                archive.writestr(f"{name}c", _compiled(path, name))
            else:
                archive.write(path, name)


def _compiled(path: Path, name: str) -> bytes:
    """Return a module as a ``.pyc`` that is never compared with its source, without docstrings and line numbers."""
    code = compile(path.read_bytes(), name, "exec", dont_inherit=True, optimize=2)
    return importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8) + marshal.dumps(_bare(code))


def _bare(code: CodeType) -> CodeType:
    constants = tuple(_bare(part) if isinstance(part, CodeType) else part for part in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=constants)
