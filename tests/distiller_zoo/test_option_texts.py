"""What docstrings say of options: one sentence for each, in all ways to write them."""

import re

import pytest

from distiller_zoo import METHODS, Method, option_texts, options_of


@pytest.mark.parametrize("method", METHODS)
def test_each_has_a_sentence_in_the_docstring_and_no_other_has(method):
    assert option_texts(METHODS[method]).keys() == options_of(method).keys()


@pytest.mark.parametrize("method", METHODS)
def test_each_sentence_is_of_one_option_and_stands_alone(method):
    """It is a line of --help: no reader of it has the code or the formula at hand."""
    texts = option_texts(METHODS[method])
    assert len(set(texts.values())) == len(texts)
    for text in texts.values():
        assert len(text.split()) > 2
        assert not re.search(r"\(see |\.py\b", text)


def test_sentences_in_all_forms():
    class Block(Method):
        """A method.

        Options:
            one, two: the first: and the
                second.
            three: 50 % of all.

        Note: none of them.
        """

    class Line(Method):
        """Options: power: exponent."""

    class Silent(Method):
        """No word of them."""

    assert option_texts(Block) == {"one": "the first: and the second", "two": "the first: and the second"} | {
        "three": "50 % of all"
    }
    assert option_texts(Line) == {"power": "exponent"}
    assert option_texts(Silent) == {}
