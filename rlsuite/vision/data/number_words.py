"""Numbers in digits, with their names as texts: 1204, `one thousand two hundred four`."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rlsuite.vision import texts
from rlsuite.vision.data import Data, DataSection, InMemory

DIGITS = tuple("0123456789")
SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
LARGE = ((1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))
WORDS = (*SMALL, *TENS, *(word for _, word in LARGE))


class Config(DataSection):
    """Numbers and their names."""

    numbers: int = Field(20_000, ge=10)
    """Number of training examples; the test set has at most a tenth as many, of other numbers."""
    digits: int = Field(6, ge=2, le=9)
    """Maximum number of digits; all lengths are equally frequent."""


def load(config: Config, seed: int) -> Data:
    """Training numbers for the seed. A tenth of all numbers, the same for every seed, are for tests only."""
    train = draw(np.random.default_rng([0, seed]), config.numbers, config.digits, held=False)
    test = np.unique(draw(np.random.default_rng([1]), max(1, config.numbers // 10), config.digits, held=True))
    parts = []
    for numbers in (train, test):
        rows = texts.encode([str(number) for number in numbers], DIGITS)
        rows = np.pad(rows, ((0, 0), (0, config.digits - rows.shape[1])), constant_values=texts.NONE)
        known = texts.encode([name(int(number)).split() for number in numbers], WORDS)
        parts.append(InMemory(texts.pictures(rows, len(DIGITS)), {"text": known}))
    return Data(parts[0], parts[1], WORDS, (len(DIGITS), 1, config.digits), ("read",), DIGITS)


def draw(rng: np.random.Generator, count: int, digits: int, held: bool) -> NDArray[np.int64]:
    """Random numbers [count] of up to so many digits, of those that are `held` out for tests, or of the others."""
    found = np.zeros(0, np.int64)
    while len(found) < count:
        length = rng.integers(1, digits + 1, 20 * count)
        more = rng.integers(np.where(length == 1, 0, 10 ** (length - 1)), 10**length)
        for_tests = (more * 2_654_435_761 % 2**32 >> 12) % 10 == 0  # Knuth's multiplicative hash
        found = np.concatenate([found, more[for_tests == held]])
    return found[:count]


def name(number: int) -> str:
    """The name of a number below 10^9."""
    parts = []
    for unit, word in LARGE:
        if number >= unit:
            parts += [name(number // unit), word]
            number %= unit
    if number >= 20:
        parts.append(TENS[number // 10 - 2])
        number %= 10
    if number or not parts:
        parts.append(SMALL[number])
    return " ".join(parts)
