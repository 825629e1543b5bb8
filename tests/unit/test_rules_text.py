"""The YAML that the rules are written in, and the rewriting of PromQL."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from loopwatch.assets.promql import Terms, duration, parse_selector, scaled_s, seconds
from loopwatch.assets.yaml_text import Noted, comment, dump

TEXTS = [
    "", " ", "a", "a b", " a", "a ", "a  b", "a\n", "\na", "a\nb", "  a\nb", "a\n  b", "a\n\nb",
    "yes", "No", "on", "null", "True", "y", "~", "1", "1.5", "1e3", "0x1f", "0o7", "1_000", ".5",
    "5m", "1h30m", "0s", "12:30:45", "2026-11-21", "inf", ".inf", "-", "- a", "?", "? a", ":", "a:",
    "a: b", "a:b", "a #b", "a#b", "#a", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a", "'a'", '"a"',
    "{a}", "[a]", "a, b", "{{ $value }}", "a {{ b }} c", "<<", "=", "\\", 'a"b\\c', "\t", "a\tb",
    "\x00", "\x7f", "\x85", "\u2028", "\ufeff", "é", "日本", "😀", "a\r\nb", "---", "...",
    "a b " * 60, "a  b " * 60, " " + "a b " * 60, "x" * 200, "{{ a b c }} " * 30 + "end",
    "# a " * 60, "a: " + "b " * 100, "line " * 40 + "\n" + "  line " * 40,
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_read_back(text: str) -> None:
    """Whatever the text, a YAML reader gets the same one, as a value, an item and deep down."""
    data = {"key": text, "list": [text, {"a": text, "b": text}], "deep": {"er": {"est": text}}}
    assert yaml.safe_load(dump(data)) == data


def test_structures_are_read_back() -> None:
    """Truth and what is empty, too; comments are comments."""
    data: dict[str, Any] = {
        "a": {"b": ["1", True, False], "c": {}, "d": []},
        "e/f.g": [{"h": {"i": ["j"]}, "k": []}],
    }
    assert yaml.safe_load(dump(data)) == data
    noted = dump({"list": [Noted("why: this\n\n- and that", {"a": "x", "b": ["y"]}), {"c": "z"}]})
    assert yaml.safe_load(noted) == {"list": [{"a": "x", "b": ["y"]}, {"c": "z"}]}
    assert "  # why: this\n  #\n  # - and that\n  - a: x\n    b:\n" in noted
    assert comment("a\nb", 2) == "  # a\n  # b"


def test_what_has_no_form_is_refused() -> None:
    """What no rule needs is a mistake: null, a number, a list in a list."""
    for value in (None, 1, 1.5, [["a"]], [{}]):
        with pytest.raises(TypeError, match="has no form"):
            dump({"a": value})


def test_text_is_pleasant_to_read() -> None:
    """Expressions stand bare or line by line, long sentences are folded with templates whole."""
    sentence = "The loop " * 10 + "{{ $value | humanizeDuration }} " + "and so on " * 5
    shown = dump({"bare": 'a{b="c"} > 1', "lines": "(\n  a\n)", "long": sentence.strip()})
    assert 'bare: a{b="c"} > 1\n' in shown
    assert "lines: |-\n  (\n    a\n  )\n" in shown
    assert "{{ $value | humanizeDuration }}" in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize("text", ["0s", "1s", "59s", "1m", "1m30s", "1h", "1d1h1m1s", "6d"])
def test_durations(text: str) -> None:
    """Seconds and their text are one."""
    assert duration(seconds(text)) == text


def test_scaled_durations() -> None:
    """Whole seconds, not below the least; nothing stays nothing."""
    assert scaled_s("5m", 0.05) == 15
    assert scaled_s("5m", 0.01) == 3
    assert scaled_s("5m", 0.01, 5) == 5
    assert scaled_s("10s", 0.01) == 0
    assert scaled_s("0s", 0.01, 1) == 0


def test_terms_touch_only_what_they_are_for() -> None:
    """Functions, labels, texts and numbers stay; metrics, recorded names, windows change."""
    terms = Terms(parse_selector('{job="a",}'), {"LIMIT": 2.5, "loopwatch_x_threshold": 1e9}, 0.1)
    expr = (
        'sum by (up_to, loop) (rate(loopwatch_a_total{cause="loopwatch_a [5m] LIMIT"}[5m])) * 300'
        " > LIMIT and loop:loopwatch_a:rate1h offset 10m < loopwatch_x_threshold or up == 0"
        ' and process_up and label_replace(loopwatch_b, "up", "$1", "job", "(.*)5m")'
    )
    assert terms.apply(expr) == (
        'sum by (up_to, loop) (rate(loopwatch_a_total{job="a",cause="loopwatch_a [5m] LIMIT"}[30s]'
        ')) * 300 > 2.5 and loop:loopwatch_a:rate6m{job="a"} offset 1m < 1000000000 or '
        'up{job="a"} == 0 and process_up and '
        'label_replace(loopwatch_b{job="a"}, "up", "$1", "job", "(.*)5m")'
    )
    assert Terms().apply(expr.replace("LIMIT", "2")) == expr.replace("LIMIT", "2")


def test_selectors_are_normalised() -> None:
    """Quotes of either kind and escapes become one form; braces and a last comma may be there."""
    matchers = parse_selector(r"""{ a = 'it''s' }""".replace("''", r"\'"))
    assert [str(m) for m in matchers] == ["""a="it's\""""]
    written = r'a=~"x\\.y|z",b!="q\"\n\t\\"'
    assert ",".join(map(str, parse_selector(written))) == written
    assert parse_selector('job=~"\\\\pL[[:alpha:]]+"')[0].value == r"\pL[[:alpha:]]+"


def test_texts_of_a_selector_are_those_of_promql() -> None:
    """Backquotes, and escapes for characters and for bytes of UTF-8; no control character stays."""
    assert parse_selector(r"a=~`(?U)\d+`")[0].value == r"(?U)\d+"
    assert parse_selector(r'a="\u00e9\xc3\xa9\303\251\U0001f600"')[0].value == "ééé😀"
    (matcher,) = parse_selector(r'a="\a\x07\f\u2028"')
    assert matcher.value == "\a\a\f\u2028"
    assert str(matcher) == r'a="\U00000007\U00000007\U0000000c\U00002028"'
    assert parse_selector(str(matcher)) == (matcher,)
