import pytest

from convspec.diagnosis import INTEGER_THEMES, THEMES, Mistake, catalogue
from convspec.diagnosis.mistakes.catalogue import mistake, theme_order

ALL = (*catalogue(), *catalogue(integers=True))


def test_there_are_enough_and_every_theme_has_some():
    assert len(catalogue()) >= 40
    assert {theme_order(kind) for kind in catalogue()} == set(range(len(THEMES)))
    assert [theme_order(kind) for kind in catalogue()] == sorted(theme_order(kind) for kind in catalogue())


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.id)
def test_every_mistake_says_what_it_is_and_where_it_was_seen(kind):
    assert kind.id == kind.id.lower().replace(" ", "-").replace("_", "-")
    for text in (kind.explanation, kind.fix):
        assert text.strip() == text
        assert text.endswith((".", "+ β, the same ε on both sides."))
    assert kind.title
    assert not kind.title.endswith(".")
    assert set(kind.frameworks) <= {"torch", "flax", "keras", "onnx"}
    assert kind.frameworks
    assert kind.evidence
    assert all(link.startswith("https://github.com/") and link.count("/") == 6 for link in kind.evidence)
    assert (kind.function.__module__, kind.function.__name__) == (kind.module, kind.id.replace("-", "_"))
    assert isinstance(kind, Mistake)
    assert repr(kind) == f"Mistake('{kind.id}')"


def test_ids_and_titles_are_unique():
    assert len({kind.id for kind in ALL}) == len({kind.title for kind in ALL}) == len(ALL)
    assert {kind.theme for kind in catalogue(integers=True)} == set(INTEGER_THEMES)
    assert not set(INTEGER_THEMES) & set(THEMES)
    with pytest.raises(ValueError, match="two mistakes are called 'bias-dropped'"):

        @mistake("Once more", frameworks=("torch",), explanation="Again.", fix="Again.", threads=())
        def bias_dropped(layer):
            yield "no bias", layer
