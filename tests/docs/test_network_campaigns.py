"""The report on random networks says what its data say."""

import json

import network_campaigns


def test_the_page_is_written_from_the_data():
    entries = [json.loads(line) for line in network_campaigns.DATA.read_text("utf-8").splitlines()]
    assert network_campaigns.PAGE.read_text("utf-8") == network_campaigns.page(entries)


def test_pieces_of_a_pair_are_added_up():
    piece = {"campaign": "translate", "source": "torch", "target": "onnx", "first": 0}
    text = network_campaigns.page([piece | {"counts": {"proved": 3}}, piece | {"counts": {"proved": 1, "raises": 2}}])
    assert "| PyTorch | ONNX | 6 | 4 | 0 | 0 | 0 | 0 | 0 | 0 | 2 |" in text
