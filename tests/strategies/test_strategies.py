"""The strategies draw what they say."""

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from convspec import Chain, ConvSpec
from convspec.errors import SpecError, UnknownName
from convspec.strategies import FEATURES, chains, invalid_fields, specs

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@few
@given(chains())
def test_chains_fit(chain):
    assert 1 <= len(chain.specs) <= 3
    assert Chain(chain.specs).num_parameters == chain.num_parameters


@settings(max_examples=300, deadline=None)
@given(invalid_fields())
def test_the_field_that_breaks_a_rule_is_blamed(drawn):
    fields, name = drawn
    with pytest.raises(SpecError) as caught:
        ConvSpec(**fields)
    assert f"{name}={fields[name]!r} must " in str(caught.value)


@pytest.mark.parametrize("feature", FEATURES)
def test_features_are_there_or_not(feature):
    plain = ConvSpec(1, 1, 1, bias=False)

    def there(spec):
        return getattr(spec, feature) != getattr(ConvSpec(1, 1, (1,) * spec.ndim, bias=False), feature)

    assert getattr(plain, feature) is not None

    @few
    @given(specs(having=[feature]), specs(lacking=[feature]))
    def check(with_it, without_it):
        assert there(with_it)
        assert not there(without_it)

    check()


def test_shrinking_leads_to_small_layers():
    # no explain phase: it runs the condition on other examples after the smallest, and find gives the last that it saw
    settled = settings(few, phases=[Phase.generate, Phase.shrink], database=None)
    small = find(specs(having=["stride", "groups"]), lambda spec: True, settings=settled)
    assert (small.ndim, small.groups, max(small.stride), small.kernel_size) == (1, 2, 2, (1,))
    with pytest.raises(UnknownName, match="strides"):
        find(specs(having=["strides"]), lambda spec: True, settings=few)
