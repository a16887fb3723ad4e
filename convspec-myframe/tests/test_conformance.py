"""The conformance suite on the adapter "myframe"; more layers: pytest --convspec-corpus features."""


def test_layer(convspec_outcome):
    convspec_outcome.expect()


def test_gaps(convspec_gaps):
    assert not convspec_gaps
