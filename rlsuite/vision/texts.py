"""Texts that models read or write, as rows of token ids, and their metrics.

A token is a word, or a character where every name in the vocabulary has one. Shapes: N texts, L tokens at most.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = -1  # fills a row after the end of its text
Rows = NDArray[np.int64]  # [N,L]


def split(text: str, words: bool) -> list[str]:
    """The tokens of a text: its characters, or its words; a comma counts as a word."""
    return text.replace(",", " ,").split() if words else list(text)


def joined(row: NDArray[np.integer], classes: Sequence[str]) -> str:
    """The text of a row [L] of token ids."""
    tokens = [classes[token] for token in row if token != NONE]
    return " ".join(tokens).replace(" ,", ",") if are_words(classes) else "".join(tokens)


def are_words(classes: Sequence[str]) -> bool:
    """Whether the tokens of a vocabulary are words, not characters."""
    return any(len(name) > 1 for name in classes)


def encode(texts: Sequence[Sequence[str]], classes: Sequence[str]) -> Rows:
    """Rows of texts that are split into tokens. KeyError for a token that is not among the `classes`."""
    ids = {name: index for index, name in enumerate(classes)}
    rows = np.full((len(texts), max([len(text) for text in texts] + [1])), NONE, np.int64)
    for row, text in zip(rows, texts, strict=True):
        row[: len(text)] = [ids[token] for token in text]
    return rows


def pictures(rows: Rows, letters: int) -> NDArray[np.uint8]:
    """Texts [N,L] as pictures [N,V,1,L] with a plane for each of V letters: 255 at its places, and 0 after the end of the text."""
    planes: NDArray[np.uint8] = (rows[:, None, None] == np.arange(letters)[:, None, None]).astype(np.uint8) * 255
    return planes


def measure(predicted: Sequence[Rows], true: Sequence[Rows], classes: Sequence[str]) -> dict[str, float]:
    """The metrics of batches of texts.

    `exact`: share of texts without a mistake. `character_error_rate`: characters to insert, delete or replace, divided by those of
    the true texts. `bleu4`, of words: see `bleu`.
    """
    pairs = [(_tokens(p), _tokens(t)) for ps, ts in zip(predicted, true, strict=True) for p, t in zip(ps, ts, strict=True)]
    texts = [tuple(joined(np.array(row, np.int64), classes) for row in pair) for pair in pairs]
    edits = sum(edit_distance(found, text) for found, text in texts)
    result = {
        "exact": float(np.mean([p == t for p, t in pairs])),
        "character_error_rate": edits / max(sum(len(text) for _, text in texts), 1),
    }
    return result | ({"bleu4": bleu(pairs)} if are_words(classes) else {})


def _tokens(row: NDArray[np.integer]) -> tuple[int, ...]:
    return tuple(row[row != NONE].tolist())


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest items to insert, delete or replace that turn `a` into `b` (Levenshtein 1966)."""
    row = list(range(len(b) + 1))  # distances of the part of `a` so far from every beginning of `b`
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def bleu(pairs: Sequence[tuple[Sequence[Hashable], Sequence[Hashable]]], longest: int = 4) -> float:
    """BLEU of (predicted, true) texts as one corpus, with one reference each (Papineni et al. 2002, section 2.3).

    The geometric mean of the precisions of 1 to `longest` tokens in a row, times the brevity penalty. 0 if one of them is 0.
    """
    right, total = [0] * longest, [0] * longest
    for predicted, true in pairs:
        for n in range(longest):
            found, there = _grams(predicted, n + 1), _grams(true, n + 1)
            right[n] += sum(min(count, there[gram]) for gram, count in found.items())  # no gram counts more often than it is there
            total[n] += found.total()
    if not all(right):
        return 0.0
    ours, theirs = sum(len(p) for p, _ in pairs), sum(len(t) for _, t in pairs)
    brevity = min(0.0, 1 - theirs / ours)
    return math.exp(brevity + sum(math.log(r / t) for r, t in zip(right, total, strict=True)) / longest)


def _grams(text: Sequence[Hashable], n: int) -> Counter[Any]:
    return Counter(tuple(text[at : at + n]) for at in range(len(text) - n + 1))
