"""The rules that the project sets itself: size, lightness, and what must never be there."""

import ast
import functools
import graphlib
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import convspec

ROOT = Path(__file__).parents[2]
MODULES = sorted([*ROOT.glob("convspec/**/*.py"), *ROOT.glob("adapters/**/*.py")])
STANDARD_LIBRARY_ONLY = ["errors", "spec", "contract", "layers"]
PACKAGES = ["convspec", *sorted(p.name for p in (ROOT / "adapters").iterdir() if p.is_dir())]
FRAMEWORKS = (
    "torch", "jax", "flax", "keras", "tensorflow", "onnx", "onnxruntime", "equinox", "openvino", "mlx",
    "ai_edge_litert", "ncnn",
)  # fmt: skip


@functools.cache
def parsed(path):
    return ast.parse(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def graph():
    """Every import of the project's modules, those inside functions included, those for type checkers not."""
    return grimp.build_graph(
        *PACKAGES, include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


def test_there_is_no_import_cycle(graph):
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    order = graphlib.TopologicalSorter(imports).static_order()  # raises CycleError with the modules
    assert set(order) >= graph.modules - {"convspec"}


def test_the_top_of_the_core_has_few_entries():
    entries = [p for p in (ROOT / "convspec").iterdir() if p.suffix in ("", ".py") and not p.name.startswith("__")]
    assert len(entries) <= 13


def test_the_core_imports_no_framework_and_no_adapter(graph):
    core = {module for module in graph.modules if module.partition(".")[0] == "convspec"}
    foreign = {name for module in core for name in graph.find_modules_directly_imported_by(module)} - core
    assert not {name for name in foreign if name.partition(".")[0] in (*FRAMEWORKS, *PACKAGES)}


def test_the_core_chooses_no_adapter_by_its_name():
    names = convspec.adapters()
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in ROOT.glob("convspec/**/*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("adapter", "find")
        and any(isinstance(argument, ast.Constant) and argument.value in names for argument in node.args)
    ]
    assert not found


def test_no_module_has_the_name_of_something_in_its_parents_face():
    """Importing the module would put it in the place of the function."""
    clashes = []
    for face in ROOT.glob("convspec/**/__init__.py"):
        package = importlib.import_module(".".join(face.parent.relative_to(ROOT).parts))
        inside = {p.stem for p in face.parent.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
        exported = {n for n in getattr(package, "__all__", ()) if not inspect.ismodule(getattr(package, n))}
        clashes += [f"{package.__name__}.{name}" for name in inside & exported]
    assert not clashes


def functions():
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node, clean=False)
                lines = node.end_lineno - node.lineno + 1 - (len(doc.splitlines()) if doc else 0)
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines


def test_modules_are_short():
    long = {str(p.relative_to(ROOT)): n for p in MODULES if (n := len(p.read_text("utf-8").splitlines())) > 500}
    assert not long, "more than 500 lines: is there a second subject in it?"


def test_functions_are_short():
    sizes = dict(functions())
    assert not {name: n for name, n in sizes.items() if n > 60}
    assert sum(n <= 30 for n in sizes.values()) >= 0.9 * len(sizes)


def test_no_tolerance_outside_the_error_bounds():
    words = ("rtol", "atol", "allclose", "isclose")
    found = [
        f"{path.name}:{node.lineno}"
        for path in MODULES
        if path.name != "error_bounds.py"
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.keyword) and node.arg in words)
        or (isinstance(node, ast.Attribute) and node.attr in words)
    ]
    assert not found


def test_a_test_that_imports_a_framework_has_its_marker():
    """What has no marker is collected by ``make test-fast``, and a framework takes seconds to import."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        names = [name for node in parsed(path).body for name in imported(node)]
        marked = any(ast.unparse(node).startswith(("pytestmark", "pytest.importorskip")) for node in parsed(path).body)
        assert marked or not {name.partition(".")[0] for name in names} & {*FRAMEWORKS}, path


def imported(node):
    """The modules that a statement imports, those inside it not."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [name.name for name in node.names] if isinstance(node, ast.Import) else []


def test_adapters_is_no_package():
    assert not (ROOT / "adapters" / "__init__.py").exists()


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_convspec_imports_nothing_heavy():
    heavy = [
        "numpy",
        "torch",
        "jax",
        "flax",
        "keras",
        "tensorflow",
        "onnx",
        "rich",
        "typer",
        "safetensors",
        "hypothesis",
        "dask",
        "distributed",
    ]
    done = run(f"import convspec, sys; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("module", STANDARD_LIBRARY_ONLY)
def test_runs_on_the_standard_library_alone(module):
    done = run(
        "import sys; sys.modules['numpy'] = None\n"
        f"import convspec.{module}\n"
        "from convspec import ConvSpec, Chain\n"
        "print(Chain([ConvSpec(3, 8, 3, 2, 'same')]).flatten((1, 3, 9, 9)).in_features)"
    )
    assert done.stdout.strip() == "200", done.stderr


@pytest.mark.parametrize("package", ["convspec_torch", "convspec_flax", "convspec_keras", "convspec_onnx"])
def test_plans_need_no_framework(package):
    blocked = ["numpy", "torch", "jax", "flax", "keras", "tensorflow", "onnx", "onnxruntime"]
    done = run(
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        f"from {package} import ADAPTER\n"
        "from convspec import ConvSpec\n"
        "print(ADAPTER.support(ConvSpec(3, 8, 3), ADAPTER.native_layout))\n"
        "print('layer' in ADAPTER.source(ConvSpec(3, 8, 3)))"
    )
    assert done.stdout.split() == ["native", "True"], done.stderr


def test_public_names_resolve():
    for name in convspec.__all__:
        assert getattr(convspec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = convspec.nothing


def test_every_package_is_typed_and_declared():
    for package in PACKAGES:
        folder = ROOT / ("adapters" if package != "convspec" else "") / package
        assert (folder / "py.typed").exists(), package
    config = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for name, target in config["project"]["entry-points"]["convspec.adapters"].items():
        found = convspec.adapter(name)
        assert found.name == name, target
