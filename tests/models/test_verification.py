"""The messages of a verification: verdicts, the first divergence, unexpected problems; no framework is needed."""

import json
from dataclasses import replace
from textwrap import dedent, indent
from types import SimpleNamespace

import numpy as np
import pytest

from convspec import ConvParams, ConvSpec
from convspec.contract.isolation import ChildProcess
from convspec.models.matching.differences import layer_differences
from convspec.models.matching.kernels import BatchNorm, Layer, fold, pair_layers
from convspec.models.verification import verifier
from convspec.models.verification.report import VerificationFailed, VerifyReport, collect

SPEC = ConvSpec(3, 4, (3, 5), padding=((0, 1), (2, 1)))


def entry(name, notes=()):
    shapes = {"input_shape": ["N", 3, 8, 9], "output_shape": None}
    return {"name": name, "op_type": "Conv", "spec": SPEC.to_dict(), **shapes, "problem": "", "notes": list(notes)}


def verdict(name, word, level="off", q=1.0, bound=4.0):
    return {"path": name, "verdict": word, "reason": word, "level": level, "inputs": "a", "spec": None,
            "evidence": {"worst_q": q, "bound": bound}, "shapes": {"x": [1, 3, 8, 9], "y": [1, 4, 7, 8]}}  # fmt: skip


def report(*messages, accepted=()):
    return collect(VerifyReport("m", None, [], accepted=frozenset(accepted)), messages)


def test_all_that_agrees_is_expected():
    found = report({"convs": [entry("a"), entry("b")]}, verdict("a", "agree"), verdict("b", "agree"))
    assert found.expect() is found
    assert found.summary == {
        "convs": 2,
        "agree": 2,
        "disagree": 0,
        "unsupported": 0,
        "error": 0,
        "crash": 0,
        "timeout": 0,
    }
    node = found.to_dict()["nodes"][0]
    assert (node["parameters"], node["macs"], node["receptive_field"]) == (184, 7 * 8 * 4 * 3 * 15, [3, 5])
    assert node["spec"] == SPEC.to_dict()
    unread = report({"convs": [entry("a") | {"spec": None}]}).to_dict()["nodes"][0]
    assert (unread["spec"], unread["parameters"]) == (None, None)


def test_the_worst_run_is_the_nodes_verdict():
    found = report(
        {"convs": [entry("a")]},
        verdict("a", "agree", q=3.0),
        verdict("a", "disagree", "all", 9.0),
        verdict("a", "agree"),
    )
    assert (found.nodes[0].verdict, found.nodes[0].worst_q, found.first_divergence) == ("disagree", 9.0, "a")
    assert [f["id"] for f in found.nodes[0].findings] == ["graph-optimisation"]
    with pytest.raises(VerificationFailed, match="a: disagree"):
        found.expect()


@pytest.mark.parametrize("word", ["disagree", "unsupported", "error", "crash", "timeout"])
def test_what_does_not_agree_is_unexpected_unless_it_is_known(word):
    messages = ({"convs": [entry("a"), entry("b")]}, verdict("a", "agree"), verdict("b", word))
    assert [(n, i) for n, i, _ in report(*messages).unexpected] == [("b", word)]
    assert not report(*messages, accepted=[("b", word)]).unexpected
    assert report(*messages, accepted=[("a", word), ("b", "other")]).unexpected


def test_nothing_agreed_is_never_accepted():
    found = report(
        {"convs": [entry("a")]}, verdict("a", "unsupported"), accepted=[("*", "unsupported"), ("*", "nothing-agreed")]
    )
    assert [i for _, i, _ in found.unexpected] == ["nothing-agreed"]
    assert report().unexpected


def test_a_note_of_level_error_and_a_missing_layer_are_unexpected():
    note = {"id": "nan-weights", "title": "t", "level": "error"}
    found = report({"convs": [entry("a", [note])]}, verdict("a", "agree"), {"missing": ["gone"]}, {"broken": "why"})
    assert {i for _, i, _ in found.unexpected} == {"nan-weights", "missing-layer", "broken"}


def test_numbers_that_json_has_no_word_for_are_borne():
    found = report(
        {"convs": [entry("a")]},
        verdict("a", "disagree", q="inf", bound="nan"),
        verdict("a", "disagree", q=1.0, bound=0.0),
    )
    assert found.nodes[0].verdict == "disagree"


# -- the process ---


def audit(tmp_path, monkeypatch, body, seconds=60):
    """The messages of an audit whose ``serve(requests, replies)`` has this body."""
    (tmp_path / "fake_audit.py").write_text(f"import os, time\ndef serve(requests, replies):\n{indent(body, ' ' * 4)}")
    monkeypatch.syspath_prepend(str(tmp_path))
    with ChildProcess("fake_audit") as child:
        return list(verifier._messages(child, {}, seconds))


def test_a_process_that_says_nothing_is_a_bad_request(tmp_path, monkeypatch):
    with pytest.raises(verifier.RequestError, match="SIGABRT"):
        audit(tmp_path, monkeypatch, "os.abort()")


def test_a_process_that_ends_early_without_an_error_is_a_bad_request(tmp_path, monkeypatch):
    with pytest.raises(verifier.RequestError, match="could not be read: the process ended with exit status 0"):
        audit(tmp_path, monkeypatch, "print('no message')")


def test_a_process_that_dies_of_a_failed_allocation_names_the_option(tmp_path, monkeypatch):
    body = "import sys; print('terminate called: std::bad_alloc', file=sys.stderr, flush=True); os.abort()"
    with pytest.raises(verifier.RequestError, match=r"bad_alloc; if you trust the model, raise --memory$"):
        audit(tmp_path, monkeypatch, body)


@pytest.mark.parametrize("noise", ["no JSON", "[" * 100_000])
def test_a_process_that_writes_something_else_is_a_bad_request(tmp_path, monkeypatch, noise):
    with pytest.raises(verifier.RequestError, match="answered with nonsense"):
        audit(tmp_path, monkeypatch, f"os.write(replies, {noise!r}.encode() + bytes([10]))\ntime.sleep(999)")


def test_a_process_that_hangs_is_killed(tmp_path, monkeypatch):
    body = """
    os.write(replies, b'{"convs": [{"name": "a"}]}\\n{"begin": ["a"]}\\n')
    time.sleep(999)
    """
    found = audit(tmp_path, monkeypatch, dedent(body), 3)
    assert [m["verdict"] for m in found if "verdict" in m] == ["timeout"]
    nowhere = {"level": "", "inputs": ""}  # the node ran at no level and on no inputs
    assert nowhere.items() <= found[-1].items()
    assert nowhere.items() <= next(m for m in found if "broken" in m).items()


def test_what_is_asked_for_reaches_the_process_and_the_source_answers_it(tmp_path, monkeypatch):
    """Limits too: a request that loses its memory limit would run whatever a file makes."""
    (tmp_path / "fake_audit.py").write_text(dedent("""
        import json, os
        def serve(requests, replies):
            seen = [json.loads(next(requests))]
            os.write(replies, b'{"wanted": {"feeds": "x"}}\\n')
            seen.append(json.loads(next(requests)))
            open(os.environ["SEEN"], "w").write(json.dumps(seen))
            os.write(replies, b'{"done": true}\\n')
    """))  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    adapter = SimpleNamespace(audit_levels=(), audit_module="fake_audit", graph_files=(".onnx",), versions=dict)
    monkeypatch.setattr(verifier.registry, "audit_adapter", lambda path: adapter)
    monkeypatch.setattr(verifier.registry, "absence", lambda adapter: "")

    class Source:
        def __init__(self, source, folder, inputs):
            pass

        def answer(self, wanted):
            return {"answer to": wanted}

    monkeypatch.setattr(verifier, "SourceModel", Source)
    options = {"memory": 123 << 20, "dims": {"N": 2}, "levels": ["all"], "oracle": False, "timeout": 20}
    verifier.verify(tmp_path / "m.onnx", object(), **options)
    request, answer = json.loads((tmp_path / "seen").read_text())
    wanted = {"path": str(tmp_path / "m.onnx"), "memory": 123 << 20, "limited": True, "dims": {"N": [2]},
              "levels": ["all"], "providers": ["CPU"], "oracle": False, "source": True, "inputs": None}  # fmt: skip
    assert wanted.items() <= request.items()
    assert answer == {"answer to": {"feeds": "x"}}


def test_a_refusal_is_a_bad_request(tmp_path, monkeypatch):
    with pytest.raises(verifier.RequestError, match=r"^no$"):
        audit(tmp_path, monkeypatch, """os.write(replies, b'{"refused": "no"}\\n')""")


def test_progress_reaches_the_end_for_every_arm_and_set_of_inputs():
    steps = []
    first = {"convs": [entry("a"), entry("b")], "sets": 2}
    verdicts = [
        verdict(name, "agree", level) | {"inputs": inputs, "provider": "CPU"}
        for inputs in "pq" for name in "ab" for level in ("off", "all") if (name, inputs) != ("b", "q")
    ]  # fmt: skip
    list(verifier._report_progress(iter([first, *verdicts, {"done": True}]), 2, lambda *step: steps.append(step)))
    assert steps == [(n, 8) for n in range(1, 7)] + [(8, 8)]


# -- matching ---


def layer(path, seed=0, spec=SPEC, norm=None):
    return Layer(path, spec, ConvParams.random(spec, seed), norm)


def normalised(channels, seed=0, epsilon=1e-5):
    rng = np.random.default_rng(seed)
    gain, shift, mean = (rng.normal(size=channels).astype(np.float32) for _ in range(3))
    return BatchNorm(gain, shift, mean, rng.uniform(0.5, 2, channels).astype(np.float32), epsilon)


def test_layers_are_matched_by_their_weights_before_their_names():
    ours = [layer("conv_7", 2), layer("conv_8", 1), layer("z", 9)]
    theirs = [layer("conv_8", 2), layer("conv_7", 1), layer("q", 8), layer("more", 7)]
    found = [(a and a.path, b and b.path) for a, b in pair_layers(ours, theirs)]
    assert found == [("conv_7", "conv_8"), ("conv_8", "conv_7"), ("z", "q"), (None, "more")]


@pytest.mark.parametrize("spec", [SPEC, ConvSpec(6, 4, (3, 2), groups=2, transposed=True)])
def test_a_fold_is_seen_through_and_its_mistakes_are_named(spec):
    norm = normalised(4)
    source = layer("c", 3, spec, norm)

    def exported(times=1, epsilon=1e-5):
        kernel, bias = source.params.kernel.astype(np.float64), source.params.bias.astype(np.float64)
        for _ in range(times):
            kernel, bias = fold(spec, kernel, bias, norm, epsilon)
        return Layer("c", spec, ConvParams(kernel.astype(np.float32), bias.astype(np.float32)))

    assert layer_differences(exported(), source) == []
    for ours, name in (
        (exported(2), "batch-norm-twice"),
        (exported(0), "batch-norm-lost"),
        (exported(1, 1e-3), "batch-norm-epsilon"),
    ):
        assert [d.id for d in layer_differences(ours, source)] == [name]


def test_what_was_done_to_a_kernel_is_named():
    spec = ConvSpec(4, 4, (3, 3))
    source, other = layer("c", 1, spec), layer("d", 2, spec)
    kernel, bias = source.params.kernel, source.params.bias
    sign = kernel.copy()
    sign[1, 2, 0, 1] *= -1
    cases = {
        "kernel-flipped": (kernel[..., ::-1, ::-1], bias),
        "kernel-spatial-transposed": (kernel.swapaxes(2, 3), bias),
        "kernel-channels-transposed": (kernel.swapaxes(0, 1), bias),
        "kernel-sign": (sign, bias),
        "kernel-float16": (kernel.astype(np.float16).astype(np.float32), bias),
        "kernel-of-another": (other.params.kernel, bias),
        "bias-of-another": (kernel, other.params.bias),
        "bias-differs": (kernel, bias + 1),
        "kernel-differs": (kernel + np.float32(0.5), bias),
    }
    for name, (k, b) in cases.items():
        assert [d.id for d in layer_differences(Layer("c", spec, ConvParams(k, b)), source, [other])] == [name]
    assert layer_differences(source, source, [other]) == []


def test_weights_stored_in_float16_are_right_within_their_rounding():
    source = layer("c", 1, ConvSpec(4, 4, (3, 3)))
    kernel, bias = (array.astype(np.float16) for array in (source.params.kernel, source.params.bias))
    assert layer_differences(replace(source, params=ConvParams(kernel, bias)), source) == []
    kernel[1, 2, 0, 1] *= np.float16(1.002)
    half = replace(source, params=ConvParams(kernel, bias))
    assert [d.id for d in layer_differences(half, source)] == ["kernel-differs"]
    assert layer_differences(half, replace(source, params=ConvParams(kernel, bias * np.float16(2))))


def test_pads_of_a_node_of_their_own_count():
    bare = ConvSpec(3, 4, (3, 5))
    params = ConvParams.random(bare, 0)
    padded = Layer("c", SPEC, params, None, ((0, 0), (0, 0)))
    apart = Layer("c", bare, params, None, ((0, 1), (2, 1)))
    assert layer_differences(apart, padded) == []
    assert apart.spec_after(((0, 1), (2, 1))) == bare
    assert apart.spec_after(((9, 9), (9, 9))) is None
