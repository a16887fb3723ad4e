"""The conformance suite on the adapter "tinyconv"; more layers: pytest --convspec-corpus features."""


def test_layer(convspec_outcome):
    convspec_outcome.expect()


def test_gaps(convspec_gaps):
    assert not convspec_gaps
