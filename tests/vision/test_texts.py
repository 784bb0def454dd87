"""Texts as rows of tokens, and their metrics by hand."""

import math

import numpy as np
import pytest

from rlsuite.vision import texts


def words(text: str) -> list[str]:
    return text.split()


def test_texts_become_rows_and_texts_again() -> None:
    rows = texts.encode([texts.split("a dot, two dots", True), texts.split("two", True)], ("a", "dot", ",", "two", "dots"))
    assert rows.tolist() == [[0, 1, 2, 3, 4], [3, -1, -1, -1, -1]]
    assert [texts.joined(row, ("a", "dot", ",", "two", "dots")) for row in rows] == ["a dot, two dots", "two"]
    assert texts.joined(np.array([2, 0, -1]), "abc") == "ca"
    assert texts.encode([[]], "ab").tolist() == [[-1]]


@pytest.mark.parametrize(
    ("a", "b", "edits"), [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("ab", "ba", 2), ("", "", 0)]
)
def test_edit_distances_by_hand(a: str, b: str, edits: int) -> None:
    assert texts.edit_distance(a, b) == edits


def test_bleu_by_hand() -> None:
    """The example of Papineni et al. 2002, where no word counts more often than the reference has it, and a brevity penalty."""
    assert texts.bleu([(words("the the the the the the the"), words("the cat is on the mat"))], longest=1) == pytest.approx(2 / 7)
    predicted, true = words("the cat sat on a mat"), words("the cat sat on the red mat")
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 fours; 6 words for 7
    expected = math.exp(1 - 7 / 6) * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert texts.bleu([(predicted, true)]) == pytest.approx(expected)
    # As one corpus: counts are added before they are divided, and a text that is too long makes up for one that is too short.
    pairs = [(predicted, true), (words("a b c d e f"), words("a b c d e"))]
    expected = (10 / 12 * 7 / 10 * 5 / 8 * 3 / 6) ** 0.25
    assert texts.bleu(pairs) == pytest.approx(expected)
    assert texts.bleu([(words("a b c d"), words("a b x d"))]) == 0.0
    assert texts.bleu([(true, true)]) == 1.0


def test_metrics_of_batches_by_hand() -> None:
    predicted = [np.array([[0, 1, -1]]), np.array([[1, 1], [0, -1]])]
    true = [np.array([[0, 1]]), np.array([[1, -1, -1], [1, -1, -1]])]
    assert texts.measure(predicted, true, "ab") == {"exact": 1 / 3, "character_error_rate": 2 / 4}
    found = texts.measure([np.array([[0, 1]])], [np.array([[0, 1]])], ("a", "dot"))
    assert found == {"exact": 1.0, "character_error_rate": 0.0, "bleu4": 0.0}  # there are no four words in a row
    assert texts.measure([np.zeros((1, 0), np.int64)], [np.array([[1]])], "ab") == {"exact": 0.0, "character_error_rate": 1.0}
