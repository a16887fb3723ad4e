"""Which corpus catches which faulty convolution: ``python scripts/mutation.py``, into ``docs/_data/mutation.json``.

Every mutant runs as an adapter, in this process, through the code that judges a framework; the store has for each
corpus the first case that catches it. The pack of test vectors is run on the mutants by its Python reader, and the Conv
and ConvTranspose tests of ONNX's backend suite with that suite's own comparison.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from mutants import MUTANTS
from mutants.engine import Layer
from mutants.mutant import Mutant, MutantAdapter

from convspec import corpora
from convspec.conformance import Selection
from convspec.conformance.checks import checks
from convspec.conformance.checks import expected as oracle
from convspec.corpora import Case, pack
from convspec.errors import ConvspecError, ShapeError

STORE = Path(__file__).parents[1] / "docs" / "_data" / "mutation.json"
CORPORA = ("features", "pairwise", "threewise")
ONNX, PACK = "ONNX node tests", "pack of vectors"
READER = Path(__file__).parents[1] / "vectors" / "readers" / "python" / "vectors.py"

Kills = dict[str, str | None]  # mutant → the first case that catches it, None if none does


def kills(cases: Iterable[Case], mutants: Iterable[Mutant] = MUTANTS) -> Kills:
    """Return the first case that catches each mutant; layouts and data as ``convspec check`` runs them."""
    caught: Kills = {mutant.id: None for mutant in mutants}
    alive = {mutant.id: mutant for mutant in mutants if not mutant.proof}
    for problem in Selection(("mutant",)).problems(tuple(cases)):
        given = oracle.given(problem.case, problem.recipes)
        for name in list(alive):
            done = checks.outcomes(MutantAdapter(alive[name]), problem.units[0], given)  # type: ignore[arg-type]
            with mock.patch.object(checks, "explain", return_value={}):  # the fault of a mutant is known
                if any(outcome.verdict not in ("agree", "unsupported") for outcome in done):
                    caught[name] = problem.case.id
                    del alive[name]
    return caught


def reader() -> ModuleType:
    """Return the Python reader of the pack of vectors, as a module."""
    spec = importlib.util.spec_from_file_location("vector_reader", READER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pack_kills(mutants: Iterable[Mutant] = MUTANTS) -> tuple[Kills, int]:
    """Return the first vector of the pack that catches each mutant, by the Python reader, and the number of vectors."""
    own = reader()
    with tempfile.TemporaryDirectory() as folder:
        pack.write(Path(folder), lambda _: {})
        read = own.read(folder)
    made = {vector.id: vector for vector in pack.draw_vectors()}
    forward = [vector for vector in read if vector.kind in ("exact", "random", "refused")]
    return {m.id: next((v.id for v in forward if _caught(own, v, made[v.id], m)), None) for m in mutants}, len(read)


def _caught(own: ModuleType, vector: Any, made: pack.Vector, mutant: Mutant) -> bool:
    def conv(_: Any, x: Any, *__: Any) -> Any:
        adapter = MutantAdapter(mutant)
        layer = adapter.build(made.spec, made.params, made.layout, made.dtype, "cpu")
        try:
            return adapter.apply(layer, x.astype(np.float64), made.layout, "cpu")
        except ShapeError as error:
            raise own.Refused(str(error)) from None

    return bool(own.check(vector, conv))


def onnx_tests() -> Iterator[tuple[str, Layer, Any, Any]]:
    """Yield ONNX's tests of the two operators: name, layer, expected output, and the test itself."""
    from onnx import numpy_helper
    from onnx.backend.test.case.node import collect_testcases

    from convspec import adapter

    with warnings.catch_warnings(action="ignore"):  # from tests of other operators, which it makes too
        tests = [test for test in collect_testcases() if [n.op_type for n in test.model.graph.node] in _OPERATORS]
    for test in tests:
        for given, expected in test.data_sets:
            model = type(test.model)()
            model.CopyFrom(test.model)
            names = [entry.name for entry in model.graph.input]
            del model.graph.input[1:]  # weights passed as inputs become initialisers
            for name, value in list(zip(names, given, strict=False))[1:]:
                model.graph.initializer.append(numpy_helper.from_array(value, name))
            reading = adapter("onnx").read(model, given[0].shape)
            layer = Layer.of(reading.spec, reading.params, given[0], "NCHW", "float32")
            yield test.name, layer, expected[0], test


_OPERATORS = (["Conv"], ["ConvTranspose"])


def onnx_kills(mutants: Iterable[Mutant] = MUTANTS) -> tuple[Kills, int]:
    """Return the first of ONNX's tests that catches each mutant, by its own comparison, and the number of tests."""
    from onnx.backend.test.runner import Runner

    tests = list(onnx_tests())
    caught: Kills = {}
    for mutant in mutants:
        caught[mutant.id] = None
        for name, layer, expected, test in tests:
            try:
                actual = mutant.output(layer).astype(expected.dtype)
                Runner.assert_similar_outputs([expected], [actual], rtol=test.rtol, atol=test.atol)
            except (AssertionError, ConvspecError):
                caught[mutant.id] = name
                break
    return caught, len(tests)


def run(names: Iterable[str]) -> dict[str, Any]:
    """Return the store's content: the size of each corpus, and the case that catches each mutant in it."""
    sizes, caught = {}, {}
    for name in names:
        cases = corpora.load(name)
        sizes[name], caught[name] = len(cases), kills(cases)
        sys.stderr.write(f"{name}, {sizes[name]} cases: {summary(caught[name])}\n")
    for name, found in ((PACK, pack_kills()), (ONNX, onnx_kills())):
        caught[name], sizes[name] = found
        sys.stderr.write(f"{name}, {sizes[name]}: {summary(caught[name])}\n")
    return {
        "sizes": sizes,
        "mutants": {m.id: {name: kills[m.id] for name, kills in caught.items()} for m in MUTANTS},
    }


def summary(caught: Kills) -> str:
    faulty = [m.id for m in MUTANTS if not m.proof]
    alive = [name for name in faulty if caught[name] is None]
    wrong = [m.id for m in MUTANTS if m.proof and caught[m.id] is not None]
    text = f"{len(faulty) - len(alive)} of {len(faulty)} caught"
    text += f"; not {', '.join(alive)}" if 0 < len(alive) <= 30 else ""
    return text + (f"; EQUIVALENT ONES CAUGHT: {wrong}" if wrong else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="*", default=CORPORA, help="names of corpora; default: " + ", ".join(CORPORA))
    parser.add_argument("--write", action="store_true", help=f"into {STORE.name}")
    chosen = parser.parse_args()
    with np.errstate(all="ignore"):
        content = run(chosen.corpora)
    if chosen.write:
        STORE.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        from generate_docs import FOLDER, table
        from site_evidence import mutation_tables

        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "mutation.md").write_text(mutation_tables(table), "utf-8")


if __name__ == "__main__":
    main()
