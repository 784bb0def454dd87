"""Draws the translations of a saved model, and measures them with a classifier. Shapes: N pictures, K domains."""

from pathlib import Path

import numpy as np

from rlsuite.core.errors import UsageError
from rlsuite.vision import draw
from rlsuite.vision.frechet import checked, see
from rlsuite.vision.generation.translation import Translator
from rlsuite.vision.predict import check_out, pictures_of
from rlsuite.vision.sample import remade, translations
from rlsuite.vision.train import SavedModel


def translator(saved: SavedModel) -> Translator:
    """Its head. UsageError if the model does not translate."""
    if not isinstance(saved.model.head, Translator):
        raise UsageError(f"{saved.path} is a {saved.config.model.head}, but pix2pix, cyclegan and stargan translate pictures")
    return saved.model.head


def show(saved: SavedModel, what: str, out: Path, count: int) -> list[Path]:
    """Writes at most `count` PNG files into `out`, each a picture above its translations. `what`: see `predict.show`."""
    translator(saved)
    check_out(what, out)
    written = []
    for name, image in pictures_of(saved, what, count):
        written.append(out / f"{name}.png")
        draw.save(translations(saved.model, image[None], None, saved.bf16), written[-1])
    return written


def judged(saved: SavedModel, classifier: SavedModel) -> dict[str, float]:
    """Metrics of translations into every domain, from a classifier and its own test pictures.

    `domain_right`, if its classes are the domains: the share of translations that it assigns to the requested domain. Otherwise
    `class_kept`: the share that it still assigns to the true class. UsageError if model and classifier do not fit each other.
    """
    domains = translator(saved).domains
    checked(saved, classifier)
    test = classifier.data().test
    images, labels = test.take(np.arange(len(test)))
    made = remade(saved.model, images, saved.bf16)  # [N,K,C,H,W]
    if made.shape[2:] != images.shape[1:]:
        raise UsageError(f"--classifier: {saved.path} makes pictures of {made.shape[2:]}, not of {images.shape[1:]} as it gets")
    found = np.stack([see(classifier, made[:, domain]).probabilities.argmax(1) for domain in range(domains)], 1)  # [N,K]
    if classifier.classes == saved.classes:
        return {"domain_right": float((found == np.arange(domains)).mean())}
    return {"class_kept": float((found == labels["label"][:, None]).mean())}
