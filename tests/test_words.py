"""Words that a person types."""

import doctest

import pytest

from ecg_transformers import words


def test_the_examples_hold():
    assert doctest.testmod(words).failed == 0


def test_an_unknown_word_without_a_near_one_lists_what_is_known():
    assert words.did_you_mean("qqqq", ("st_mem", "cmsc")) == "; known: st_mem, cmsc."


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("TRUE", True),
        ("None", None),
        ("null", None),
        ("[I, II,V2]", ["I", "II", "V2"]),
        ("[1,[2,3]]", [1, [2, 3]]),
        ('{"a": [1, 2]}', {"a": [1, 2]}),
        ('"1"', "1"),
        ("a=b", "a=b"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
    ],
)
def test_values_are_read_as_what_they_look_like(text, value):
    found = words.key_values(f"first=0,key={text}")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "reason"), [("a", "key=value"), ("=1", "key=value"), ("a=1,a=2", "twice")])
def test_what_is_no_pair_is_named(text, reason):
    with pytest.raises(ValueError, match=reason):
        words.key_values(text)


def test_the_value_of_a_single_pair_may_hold_commas():
    assert words.key_value("leads=I,II") == ("leads", "I,II")
