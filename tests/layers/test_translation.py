"""From a constructor of one framework to another's program, in all twelve directions."""

import ast
import itertools
import json
import subprocess
import sys
from dataclasses import replace

import pytest

import convspec
from convspec import ConvSpec, RequestError, ShapeError, SpecError, adapter, corpora
from convspec.errors import CallError
from convspec.layers.translation import layer_of, translate
from convspec.spec.shapes import resolve_padding

FRAMEWORKS = ("torch", "flax", "keras", "onnx")
CASES = corpora.load("features")


def constructor(name, spec, layout=None):
    """The call that makes the layer, of a framework that has it; None where it is composed."""
    found = adapter(name)
    plan = found.plan(spec, layout or found.native_layout)
    if plan.support != "native":
        return None
    calls = [node for node in ast.walk(ast.parse(plan.text)) if isinstance(node, ast.Call)]
    (call,) = [c for c in calls if "Conv" in ast.unparse(c.func) or "'Conv" in ast.unparse(c.args[:1] or c.func)]
    if name.startswith("onnx"):
        call.keywords.append(ast.keyword("W", ast.parse(repr(spec.kernel_shape), mode="eval").body))
    return ast.unparse(call)


def meaning(spec):
    """The spec where one meaning has several spellings: net crops, and pads that are zero for every size."""
    if spec.transposed:
        pads, extra = resolve_padding(spec, (1,) * spec.ndim)
        crops = tuple((lo, hi - op) for (lo, hi), op in zip(pads, extra, strict=True))
        return replace(spec, padding=0, output_padding=0), crops
    if isinstance(spec.padding, str) and set(spec.kernel_size) == {1}:
        return replace(spec, padding=0)
    return spec


@pytest.mark.parametrize("name", [*FRAMEWORKS, "flax-linen", "keras-jax", "keras-torch", "onnx-reference"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_every_native_constructor_is_read_back(name, layout):
    read = 0
    for case in CASES:
        text = constructor(name, case.spec, layout)
        if text is not None:
            assert meaning(adapter(name).parse(text, case.spec.in_channels)) == meaning(case.spec), text
            read += 1
    native_there = name.startswith("keras") or (layout == "NCHW") == name.startswith(("torch", "onnx"))
    assert bool(read) == native_there


@pytest.mark.parametrize(("source", "target"), [*itertools.permutations(FRAMEWORKS, 2)])
def test_every_direction_gives_the_targets_program(source, target):
    there = adapter(target)
    done = 0
    for case in CASES:
        text = constructor(source, case.spec)
        if text is None:
            continue
        found = translate(text, target, case.spec.in_channels)
        assert (found.origin, found.adapter, found.layout) == (source, target, there.native_layout)
        assert meaning(found.spec) == meaning(case.spec)
        assert found.support in ("native", "composed")
        assert bool(found.source) == (found.support != "unsupported")
        if found.spec == case.spec and there.support(case.spec, found.layout) == "native":
            assert found.source == there.source(case.spec, found.layout)
        done += 1
    assert done >= 63


def test_of_two_spellings_the_one_that_the_target_has_a_layer_for():
    text = "nnx.ConvTranspose(3, 16, (3, 4), (2, 2), [(1, 2), (2, 3)], transpose_kernel=True, rngs=rngs)"
    found = translate(text, "torch")
    assert found.support == "native"
    assert "nn.ConvTranspose2d(3, 16, (3, 4), stride=2, padding=1, output_padding=1)" in found.source


NAMES = [
    ("nn.Conv2d(3, 16, 3)", "torch"),
    ("self.up = torch.nn.LazyConvTranspose3d(16, 3)", "torch"),
    ("Conv2D(16, 3)", "keras"),
    ("tf.keras.layers.Conv3DTranspose(16, 3)", "keras"),
    ("layers.DepthwiseConv1D(3)", "keras"),
    ("Convolution2D(4, 3)", "keras"),
    ("nnx.Conv(3, 16, (3, 3), rngs=rngs)", "flax"),
    ("Conv(3, 16, (3, 3), rngs=rngs)", "flax"),
    ("nn.Conv(3, 16, kernel_size=(3, 3))", "flax"),
    ("linen.Conv(16, (3, 3))", "flax-linen"),
    ("nn.Conv(16, (3, 3))", "flax-linen"),
    ("nn.Conv(16, kernel_size=(3, 3), strides=2)", "flax-linen"),
    ("nn.ConvTranspose(features=16, kernel_size=(3,))", "flax-linen"),
    ("Conv(W=[16, 3, 3, 3])", "onnx"),
    ("eqx.nn.Conv2d(3, 16, 3, key=jax.random.key(0))", "equinox"),
    ("equinox.nn.ConvTranspose1d(3, 16, 3)", "equinox"),
    ("self.conv = Conv3d(3, 16, 3, key=key)", "equinox"),
    ("nn.Conv(num_spatial_dims=2, in_channels=3, out_channels=16, kernel_size=3, key=key)", "equinox"),
    ("helper.make_node('ConvTranspose', ['x', 'w'], ['y'], W=[4, 3, 3])", "onnx"),
]


@pytest.mark.parametrize(("text", "name"), NAMES)
def test_the_constructor_says_whose_it_is(text, name):
    spec, origin, call = layer_of(text, 3 if name in ("keras", "flax-linen") or "Lazy" in text else None)
    assert origin == name
    assert call.text == text
    assert spec.out_channels >= 1


REFUSED = [
    ("nn.Conv(3, 16, 3)", "may be nnx' or linen's: write nnx.Conv or linen.Conv", CallError),
    ("nn.Conv(3, 16, (3, 3))", "may be nnx' or linen's", CallError),
    ("nn.Conv2D3(3, 16)", "Conv2D3 is not a convolution (did you mean Conv2D?)", CallError),
    (
        "ops.convolution(x, w, [1, 1], [0, 0], [0, 0], [1, 1])",
        "takes weights, not channels: write the layer as JSON",
        CallError,
    ),
    ("Linear(3, 16)", "Linear is not a convolution", CallError),
    ("nn.Conv2d(3, n, 3)", "out_channels must be a literal", CallError),
    ("3", "one constructor call", CallError),
    ('{"in_channels": 3}', "out_channels must be given", SpecError),
    ("nn.Conv2d(3, 16, 0)", "kernel_size=0 must", SpecError),
]


@pytest.mark.parametrize(("text", "words", "kind"), REFUSED)
def test_what_is_ambiguous_or_wrong_is_refused(text, words, kind):
    with pytest.raises(kind) as caught:
        translate(text, "keras")
    assert words in str(caught.value)


def test_the_position_is_shown_where_a_name_is_ambiguous():
    with pytest.raises(CallError) as caught:
        translate("  nn.Conv(3, 16, 3)", "torch")
    assert str(caught.value).splitlines()[-1].strip() == "^"


def test_channels_that_contradict_are_refused():
    with pytest.raises(RequestError, match=r"in_channels=4 contradicts nn\.Conv2d, which has 3"):
        translate("nn.Conv2d(3, 16, 3)", "keras", 4)
    with pytest.raises(RequestError, match="contradicts the spec"):
        translate(ConvSpec(3, 4, 3), "keras", 4)
    assert translate(ConvSpec(3, 4, 3), "keras", 3).spec == ConvSpec(3, 4, 3)


def test_the_inputs_shape_is_that_of_the_source():
    translate("Conv2D(16, 3)", "torch", 3, input_shape=(1, 32, 30, 3))
    translate("Conv2D(16, 3, data_format='channels_first')", "torch", 3, input_shape=(1, 3, 32, 30))
    translate("Conv2D(16, 3, 1, 'valid', 'channels_first')", "torch", 3, input_shape=(1, 3, 32, 30))
    with pytest.raises(ShapeError, match="looks like"):
        translate("Conv2D(16, 3)", "torch", 3, input_shape=(1, 3, 32, 30))


def test_what_cannot_be_said_has_a_reason_and_no_source():
    found = translate(ConvSpec(3, 4, (3,) * 4), "torch")
    assert (found.support, found.source) == ("unsupported", "")
    assert [remark.id for remark in found.remarks][:1] == ["unsupported"]
    assert translate(ConvSpec(3, 4, 3), "onnx", dtype="float64").support == "unsupported"


def test_a_translation_is_json():
    found = translate("nn.Conv2d(3, 16, 3, stride=2, padding=1)", "keras", input_shape=(1, 3, 32, 30))
    data = json.loads(json.dumps(found.to_dict()))
    assert ConvSpec.from_dict(data["spec"]) == found.spec
    assert (data["from"], data["to"], data["support"]) == ("torch", "keras", "composed")
    assert {"id": "kernel-order", "code": "kernel = np.transpose(kernel, (2, 3, 1, 0))"}.items() <= next(
        remark for remark in data["remarks"] if remark["id"] == "kernel-order"
    ).items()


def test_a_translation_prints_as_a_program_with_remarks():
    found = translate("nn.Conv2d(3, 16, 3, stride=2, padding=1)", "keras-jax")
    printed = str(found)
    ast.parse(printed)
    assert printed.startswith(found.source.rstrip("\n") + "\n\n# Differences to mind when porting from PyTorch:\n#\n")
    assert all(f"\n# {remark.id}: " in printed for remark in found.remarks)
    assert "#       kernel = np.transpose(kernel, (2, 3, 1, 0))" in printed.splitlines()
    assert repr(found) == f"<Translation: {found.spec!r} for keras-jax, composed, {len(found.remarks)} remarks>"
    assert "# Differences to mind:" in str(translate(ConvSpec(3, 16, 3, 2, "same"), "torch"))
    assert str(translate(ConvSpec(3, 16, 3), "torch")) == "from torch import nn\n\nlayer = nn.Conv2d(3, 16, 3)"


def test_an_unsupported_layer_prints_as_its_reason():
    lines = str(translate(ConvSpec(3, 4, (3,) * 4), "torch")).splitlines()
    assert lines[0] == "# torch has no such layer."
    assert lines[-1].startswith("# unsupported: ")


def test_it_runs_on_the_standard_library_alone():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['numpy', 'torch', 'jax', 'flax', 'keras', 'tensorflow', 'onnx', 'rich']))\n"
        "import convspec.layers.pictures.text, convspec.layers.sentences\n"
        "from convspec import translate\n"
        "for to in ('torch', 'flax', 'keras', 'onnx'):\n"
        "    print(len(translate('nn.Conv2d(3, 16, 3, stride=2, padding=1)', to).remarks) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["False", "True", "True", "True"], done.stderr
    assert convspec.translate is translate
