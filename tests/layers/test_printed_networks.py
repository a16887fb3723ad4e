"""What PyTorch prints of a model, read without PyTorch."""

import pytest

from convspec import Network

PRINTED = """Net(
  (conv1): Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1), padding=same, padding_mode=reflect)
  (blocks): ModuleList(
    (0-1): 2 x Block(
      (conv): Conv2d(6, 6, kernel_size=(3, 3), stride=(2, 2))
      (act): ReLU(inplace=True)
    )
  )
  (attention): MultiheadAttention(
    (out_proj): NonDynamicallyQuantizableLinear(in_features=6, out_features=6, bias=True)
  )
  (fc): Linear(in_features=54, out_features=3, bias=True)
)"""


def test_the_print_of_a_class_is_taken_in_its_order_and_says_so():
    network = Network.parse(PRINTED.replace("attention", "gone").replace("MultiheadAttention", "Sequential"))
    trace = network.trace((2, 1, 15, 15))
    assert [row.path for row in trace.rows if row.is_layer][:5] == [
        "conv1", "blocks.0.conv", "blocks.0.act", "blocks.1.conv", "blocks.1.act",
    ]  # fmt: skip
    assert trace.rows[4].shape == (2, 6, 3, 3)
    assert any("in its order" in note for note in trace.notes)


def test_what_a_print_does_not_say_is_unknown():
    rows = Network.parse(PRINTED).shapes((2, 1, 15, 15))
    by_path = {row.path: row for row in rows}
    assert by_path["attention"].parameters is None
    assert "settings" in by_path["attention"].problem
    assert by_path["fc"].parameters == 165
    assert by_path["fc"].shape is None


def test_a_layer_of_a_printed_class_that_does_not_fit_is_not_called_wrong():
    """A forward may do anything between two layers."""
    layers = ("(conv1): Conv2d(1, 6, kernel_size=(5, 5), stride=(1, 1))", "(fc): Linear(in_features=3, out_features=2)")
    text = "\n  ".join(("Net(", *layers)) + "\n)"
    trace = Network.parse(text).trace((1, 1, 8, 8))
    *_, last = trace.rows
    assert (last.path, last.shape, last.parameters) == ("fc", None, 8)
    assert "does not say what it reads" in last.problem
    assert any("what fc reads is not known" in note for note in trace.notes)


ONE_LINE = {
    "(conv1): Conv2d(3, 6, kernel_size=(5, 5), stride=(1, 1), padding=same),": "conv1",
    "Conv2d(3, 6, kernel_size=(5, 5), stride=(1, 1), padding=same, padding_mode=circular)": "Conv2d_0",
    "(c): LazyConv2d(0, 6, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))": "c",
}


@pytest.mark.parametrize(("text", "path"), ONE_LINE.items())
def test_one_line_of_a_print(text, path):
    (row,) = Network.parse(text).shapes((1, 3, 9, 9))
    assert (row.path, row.shape, row.parameters) == (path, (1, 6, 9, 9), 456)
