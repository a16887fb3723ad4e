"""Keras files and SavedModels: what they hold, and what they may not do."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")
from convspec_keras import ADAPTER

ADAPTER.configure(threads=1)

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from convspec_keras import files, model  # noqa: E402
from tensorflow.core.protobuf import saved_model_pb2  # noqa: E402

import convspec  # noqa: E402
from convspec import ConvSpec  # noqa: E402
from convspec.errors import RequestError, UnsupportedError  # noqa: E402

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SPECS = [
    ConvSpec(3, 4, (3, 5), (2, 1), "same"),
    ConvSpec(4, 8, (3, 3), dilation=2, groups=4),
    ConvSpec(8, 5, (2, 3), 2, transposed=True, bias=False),
    ConvSpec(5, 10, 3, groups=5),
]


def net(seed=0, epsilon=0.01):
    layers = keras.layers
    stack = [
        layers.Conv2D(4, (3, 5), strides=(2, 1), padding="same", name="a"),
        layers.BatchNormalization(epsilon=epsilon, name="norm"),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2, name="deep"),
        layers.Conv2DTranspose(5, (2, 3), strides=2, use_bias=False, name="up"),
        layers.Conv2D(10, 3, groups=5, activation="relu", name="grouped"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, name="fc"),
    ]
    found = keras.Sequential([keras.Input((16, 20, 3)), *stack])
    random = np.random.default_rng(seed)
    for weight in found.weights:
        weight.assign(random.random(weight.shape, np.float32) + 0.25)
    return found


def inputs():
    return np.random.default_rng(0).standard_normal((2, 16, 20, 3), np.float32)


class Graph(tf.Module):
    """Explicit pads, one axis, three axes, NCHW, branches – as people write graphs by hand."""

    def __init__(self):
        super().__init__()
        random = np.random.default_rng(0)
        shapes = {"plain": (3, 5, 3, 4), "row": (3, 4, 6), "cube": (2, 1, 3, 3, 2), "branch": (1, 1, 3, 4)}
        self.kernels = {name: tf.Variable(random.random(shape), dtype=tf.float32) for name, shape in shapes.items()}
        self.bias = tf.Variable([1.0, 2.0, 3.0, 4.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 9, 3], tf.float32, "image")])
    def run(self, image):
        pads = [[0, 0], [1, 0], [2, 1], [0, 0]]
        y = tf.nn.conv2d(image, self.kernels["plain"], [1, 2, 1, 1], pads, name="plain") + self.bias
        row = tf.nn.conv1d(y[:, 0], self.kernels["row"], 2, "VALID", dilations=1, name="row")
        cube = tf.nn.conv3d(image[:, None], self.kernels["cube"], [1] * 5, "SAME", name="cube")
        padded = tf.pad(image, [[0, 0], [1, 2], [0, 3], [0, 0]])
        padded = tf.nn.conv2d(padded, self.kernels["branch"], 1, "VALID", name="padded")
        computed = tf.nn.conv2d(image, self.kernels["branch"] * tf.reduce_max(image), 1, "VALID", name="computed")

        def inner():
            return tf.reduce_sum(tf.nn.conv2d(image, self.kernels["branch"], 1, "VALID", name="inner"))

        chosen = tf.cond(tf.reduce_sum(image) > 0, inner, lambda: tf.constant(0.0))
        return {"row": row, "sum": tf.reduce_sum(cube) + chosen + tf.reduce_sum(computed) + tf.reduce_sum(padded)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("files")
    net().save(where / "net.keras")
    net(1).save(where / "other.keras")
    net().export(where / "exported", verbose=False)
    graph = Graph()
    tf.saved_model.save(graph, str(where / "graph"), signatures=graph.run)
    return where


def test_a_saved_model_is_read_and_watched_like_the_model_that_was_exported(folder):
    own, (expected,), _ = model.trace_model(net(), [inputs()])
    program = files.load(str(folder / "exported"))
    found = model.parts(program)
    assert [part.reading.spec for part in found if part.kind == "conv"] == SPECS
    assert [part.path.rpartition("/")[2] for part in found] == ["a_1", "norm_1", "deep_1", "up_1", "grouped_1", "fc_1"]
    for ours, theirs in zip(found, model.parts(net()), strict=True):
        assert ours.epsilon == theirs.epsilon
        for name, array in theirs.weights.items():
            assert np.array_equal(ours.weights[name], array), (ours.path, name)
    calls, (y,), _ = model.trace_model(program, [inputs()])
    assert is_rounding(y, expected)
    assert len(calls) == len(own) == 6
    with pytest.raises(UnsupportedError, match="a SavedModel's graph is not written: port to a Keras model"):
        model.write(program, {})
    for ours, theirs in zip(calls, own, strict=True):
        assert is_rounding(ours.x, theirs.x)
        assert is_rounding(ours.y, theirs.y)


def is_rounding(y, expected):
    """A graph fuses what runs apart otherwise, and some processors round that in another place."""
    return y.shape == expected.shape and np.abs(y - expected).max() <= 2**-22 * np.abs(expected).max()


def test_graphs_that_were_written_by_hand(folder):
    program = files.load(str(folder / "graph"))
    found = {entry.path: entry for entry in ADAPTER.convs(program)}
    assert found["plain"].reading.spec == ConvSpec(3, 4, (3, 5), (2, 1), ((1, 0), (2, 1)))
    assert np.array_equal(found["plain"].reading.params.bias, [1, 2, 3, 4])
    assert found["row"].reading.spec == ConvSpec(4, 6, (3,), 2, bias=False)
    assert found["cube"].reading.spec == ConvSpec(3, 2, (2, 1, 3), padding="same", bias=False)
    assert found["computed"].problem == "its kernel is computed: by Mul"
    (inner,) = [path for path in found if path.startswith("cond/then/")]
    assert found[inner].reading.spec == ConvSpec(3, 4, 1, bias=False)
    padded = next(entry for entry in ADAPTER.convs(program, fold_pads=True) if entry.path == "padded")
    assert padded.reading.spec == ConvSpec(3, 4, 1, padding=((1, 2), (0, 3)), bias=False)
    assert padded.pads == ((1, 2), (0, 3))
    taken, _, _ = model.trace_model(program, {"image": np.abs(inputs()[:, :8, :9])})
    skipped, _, _ = model.trace_model(program, [-np.abs(inputs()[:, :8, :9])])
    assert {c.path for c in taken} - {c.path for c in skipped} == {inner}
    row = next(call for call in taken if call.path == "row")
    assert (row.x.shape, row.y.shape) == ((2, 8, 4), (2, 3, 6))
    for given in ([inputs()], [], {"other": inputs()}):
        with pytest.raises(RequestError, match=r"does not take these inputs|the signature takes"):
            model.trace_model(program, given)


def test_files_are_compared_and_ported_by_their_paths(folder, tmp_path):
    report = convspec.port_weights(folder / "exported", folder / "other.keras", inputs())
    assert report.comparison.agrees, str(report.comparison)
    report.save(tmp_path / "ported.keras")
    ported = keras.saving.load_model(tmp_path / "ported.keras")
    for ours, theirs in zip(ported.weights, net().weights, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy())


def test_a_file_without_convolutions_lists_its_layers(tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "dense.keras")
    with pytest.raises(UnsupportedError, match="no convolutions; its layers: Dense"):
        ADAPTER.convs(files.load(str(tmp_path / "dense.keras")))
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).export(tmp_path / "dense", verbose=False)
    with pytest.raises(UnsupportedError, match=r"no convolutions; its operators: .*MatMul"):
        ADAPTER.convs(files.load(str(tmp_path / "dense")))


# -- files that mean harm ----------------------------------------------------------------------------------------------


def rewritten(source, target, change):
    """A Keras file with its configuration changed in place by ``change``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return str(target)


def test_a_lambda_is_refused(tmp_path):
    layers = [keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 3), keras.layers.Lambda(lambda x: x * 2)]
    keras.Sequential(layers).save(tmp_path / "lambda.keras")
    with pytest.raises(UnsupportedError, match=r"in safe mode does not load it: .*Lambda") as caught:
        files.load(str(tmp_path / "lambda.keras"))
    assert "safe_mode=False" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("antigravity", "fly"), ("keras.utils", "get_file"), ("keras.src.utils.file_utils", "get_file")],
)
def test_classes_that_are_no_layers_are_refused(folder, tmp_path, module, name):
    def change(config):
        config["config"]["layers"][1].update(module=module, class_name=name, registered_name=None)

    with pytest.raises(UnsupportedError, match="Keras in safe mode does not load it"):
        files.load(rewritten(folder / "net.keras", tmp_path / "net.keras", change))


@pytest.mark.parametrize("keep", [0, 100, -40])
def test_truncated_keras_files(folder, tmp_path, keep):
    (tmp_path / "net.keras").write_bytes((folder / "net.keras").read_bytes()[:keep])
    with pytest.raises(RequestError, match=r"truncated|broken|not a Keras file"):
        files.load(str(tmp_path / "net.keras"))


def changed(folder, target, change):
    """A SavedModel with its protocol buffer changed in place by ``change``."""
    shutil.copytree(folder, target)
    path = target / "saved_model.pb"
    proto = saved_model_pb2.SavedModel()
    proto.ParseFromString(path.read_bytes())
    change(proto.meta_graphs[0])
    path.write_bytes(proto.SerializeToString())
    return str(target)


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        ("WriteFile", "may do more than compute: WriteFile"), ("ReadFile", "may do more than compute: ReadFile"),
        ("PyFunc", "more than compute"), ("DebugIdentity", "more than compute"), ("PrintV2", "more than compute"),
        ("MineOp", "operators of other libraries, which are not loaded: MineOp"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["graph", "function"])
def test_operators_that_do_more_than_compute(folder, tmp_path, operator, message, place):
    def change(meta):
        if place == "function":
            body = next(f for f in meta.graph_def.library.function if any(n.op == "Conv2D" for n in f.node_def))
            body.node_def.add(name="harm", op=operator)
        else:
            meta.graph_def.node.add(name="harm", op=operator)
            end = meta.signature_def["serving_default"].outputs["output_0"].name.partition(":")[0]
            next(node for node in meta.graph_def.node if node.name == end).input.append("^harm")

    with pytest.raises(UnsupportedError, match=message):
        files.load(changed(folder / "exported", tmp_path / "harm", change))


def test_what_is_not_reached_is_not_run(folder, tmp_path):
    canary = tmp_path / "written"

    def change(meta):
        with tf.Graph().as_default() as graph:
            tf.io.write_file(str(canary), "harm")
        nodes = graph.as_graph_def().node
        meta.graph_def.node.extend(nodes)
        initial = meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"]
        initial.name = next(node.name for node in nodes if node.op == "WriteFile")

    program = files.load(changed(folder / "exported", tmp_path / "harm", change))
    model.trace_model(program, [inputs()])
    assert not canary.exists()


def test_broken_saved_models(folder, tmp_path):
    for name, content in (("none", b""), ("text", b"hello"), ("half", None)):
        shutil.copytree(folder / "exported", tmp_path / name)
        path = tmp_path / name / "saved_model.pb"
        path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
        with pytest.raises(RequestError, match=r"no SavedModel|contains no graph"):
            files.load(str(tmp_path / name))
    with pytest.raises(UnsupportedError, match="no signature serving_default, nor a single one; its signatures: none"):
        files.load(changed(folder / "exported", tmp_path / "signed", lambda meta: meta.signature_def.clear()))
    shutil.copytree(folder / "exported", tmp_path / "empty")
    shutil.rmtree(tmp_path / "empty" / "variables")
    with pytest.raises(RequestError, match="its graph cannot be built"):
        files.load(str(tmp_path / "empty"))
