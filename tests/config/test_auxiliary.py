"""Auxiliary losses and novelty bonuses by name, and what is refused."""

import pytest

from rlsuite.config.auxiliary import Bonus, Reconstruct, ReconstructionError, Rnd, auxiliary_of, novelty_of
from rlsuite.config.loader import resolve
from rlsuite.core.errors import UsageError


def test_names_with_settings() -> None:
    assert auxiliary_of("none") is None
    assert novelty_of("none") is None
    assert auxiliary_of("reconstruct") == Reconstruct()
    assert auxiliary_of("reconstruct(weight=3,latent=8)") == Reconstruct(3, 8)
    assert novelty_of("rnd(weight=0.1,discount=0.9,width=32)") == Rnd(0.1, 0.9, 32)
    found: Bonus | None = novelty_of("reconstruction(latent=4)")
    assert found == ReconstructionError(latent=4)


@pytest.mark.parametrize(
    ("key", "text", "reported"),
    [
        ("agent.novelty", "rmd", "unknown novelty bonus 'rmd'; did you mean rnd"),
        ("agent.novelty", "reconstruct", "unknown novelty bonus 'reconstruct'; did you mean reconstruction"),
        ("net.auxiliary", "reconstruction", "unknown auxiliary loss 'reconstruction'; did you mean reconstruct"),
        ("agent.novelty", "rnd(with=3)", "unknown parameter of rnd 'with'; did you mean width"),
        ("agent.novelty", "none(weight=1)", "none takes no settings"),
        ("agent.novelty", "rnd(weight=nan)", "weight = nan, but it is a number above 0"),
        ("net.auxiliary", "reconstruct(weight=inf)", "weight = inf, but it is a number above 0"),
        ("agent.novelty", "reconstruction(latent=0)", "latent = 0, but it is a whole number above 0"),
        ("net.auxiliary", "reconstruct(latent=0)", "latent = 0, but it is a whole number above 0"),
        ("net.auxiliary", "reconstruct(latent=1.5)", "latent = 1.5, but it is a whole number above 0"),
        ("net.auxiliary", "reconstruct(weight=0)", "weight = 0, but it is a number above 0"),
        ("agent.novelty", "rnd(weight=-1)", "weight = -1, but it is a number above 0"),
        ("agent.novelty", "rnd(width=true)", "width = True, but it is a whole number above 0"),
        ("agent.novelty", "rnd(discount=1)", "discount = 1, but it is below 1"),
        ("agent.novelty", "rnd(", "names no novelty bonus"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(key: str, text: str, reported: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve("atari/ppo", {key: text})
    assert str(error.value).startswith(f"{key}: ")
    assert reported in str(error.value)
    assert "\n" not in str(error.value)
