"""Broken adapters of other distributions: the text of each module, and what is said of it."""

GOOD = "from convspec_fakes import GOOD as ADAPTER\n"
WAYS = {  # name of the adapter: its module, and words of the reason
    "import-error": ("import no_such_thing_anywhere", "ModuleNotFoundError: No module named 'no_such_thing_anywhere'"),
    "syntax-error": ("def (", "SyntaxError: invalid syntax (bad_syntax_error.py, line 1)"),
    "runtime-error": ("\n\nraise RuntimeError('no licence')", "RuntimeError: no licence ("),
    "escapes": ("raise RuntimeError('\\x1b[31m\\u202e\\nred')", r"RuntimeError: \x1b[31m\u202e red"),
    "no-text": (
        "class Rude(Exception):\n    def __str__(self):\n        raise ValueError\nraise Rude",
        "Rude: (Rude has no text)",
    ),
    "none": ("ADAPTER = None", "bad_none:ADAPTER must be an instance of convspec.contract.Adapter, and is of type"),
    "a-class": ("from convspec_fakes import Fake as ADAPTER", "Adapter, and is the class Fake"),
    "wrong-field": (
        "import dataclasses\nfrom convspec_fakes import GOOD\nADAPTER = dataclasses.replace(GOOD, dtypes='float32')",
        "dtypes of bad_wrong_field:ADAPTER must be a tuple of strings, got 'float32'",
    ),
    "nothing": ("", "module 'bad_nothing' has no adapter 'ADAPTER'"),
    "exits": ("import sys\nsys.exit(0)", "SystemExit: 0"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "changes-folder": (f"import os\nos.chdir('/')\n{GOOD}", "its module changes the working directory"),
    "closes-input": (f"import os\nos.close(0)\n{GOOD}", "its module closes standard input"),
    "closes-output": (f"import sys\nsys.__stdout__.close()\n{GOOD}", "its module closes standard output"),
    "os-exits": ("import os\nos._exit(0)", "the process ended with exit status 0"),
    "aborts": ("import os\nos.abort()", "the process ended with SIGABRT"),
    "segfaults": ("import ctypes\nctypes.string_at(0)", "the process ended with SIGSEGV"),
    "hangs": ("import time\nwhile True:\n    time.sleep(1)", "its import takes more than 8 s"),
}
GOOD_ONES = {"good": GOOD, "prints": f"print('noise ' * 20000)\n{GOOD}"}

_ASKED = """import os, sys
from convspec_fakes import Fake

class Bad(Fake):
    def {method}(self, *args, **kwargs):
        {body}

ADAPTER = Bad({name!r})
"""
_BODIES = {
    "raises": "raise RuntimeError('no \\x1b[31midea')",
    "exits": "sys.exit(0)",
    "os-exits": "os._exit(0)",
    "returns-none": "return None",
    "returns-text": "return 'no such thing ('",
}
ASKED = ("versions", "gaps", "owns", "support", "source")  # by commands, in their own process
WORKED = ("devices", "configure", "build", "apply", "compute_precision")  # by workers
CALLS = {  # (method, way): the module of an adapter whose method fails when it is called
    (method, way): _ASKED.format(method=method, body=body, name=f"{method}-{way}")
    for method in (*ASKED, *WORKED)
    for way, body in _BODIES.items()
}
ENDS = ("exits", "os-exits")  # the process
REFUSED = {  # by a run that does not name them: their methods are needed, and fail
    (method, way) for method, way in CALLS if method in ASKED and (way in ENDS or method not in ("owns", "source"))
}


def install(folder, name, modules, entries=(), metadata=True):
    """A distribution of adapters in a folder: each is ``ADAPTER`` of a module of its own."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    if metadata:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = list(entries)
    for adapter, text in modules.items():
        module = "bad_" + adapter.replace("-", "_")
        (folder / f"{module}.py").write_text(text)
        lines.append(f"{adapter} = {module}:ADAPTER")
    (info / "entry_points.txt").write_text("\n".join(["[convspec.adapters]", *lines, ""]))
    return folder
