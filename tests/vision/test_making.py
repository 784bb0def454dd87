"""Runs of models that make pictures: exact resume, NaN, the pictures they write, anomalies, and the distance from real ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from rlsuite.cli.vision import app
from rlsuite.core.errors import NotFiniteError, UsageError
from rlsuite.runs import checkpoint
from rlsuite.vision import anomalies, frechet, predict, sample
from rlsuite.vision.data import Data, InMemory
from rlsuite.vision.data.leave_out import ClassSection, left_out
from rlsuite.vision.generation import gans
from rlsuite.vision.train import SavedModel, load_data, train

DIGITS = {
    "model.backbone": "dcgan(width=4,depth=3)",
    "learner.batch_size": 16,
    "learner.augment": {},
    "run.steps": 64,
    "run.threads": 1,
    "run.device": "cpu",
    "eval.every_steps": 32,
    "eval.pictures": 20,
}
VAE, CONDITIONAL = "vae(latent=4)", "conditional_gan(latent=4,rate=0.5)"


def run(path: Path, head: str, **more: Any) -> Path:
    return train("vision/digits", {**DIGITS, "model.head": head, **more}, path).run


AVERAGED = {"learner.act_with_target": True, "learner.target_ema": 0.1, "learner.target_period_learner_steps": 1}


@pytest.mark.parametrize(
    ("head", "more"),
    [
        (VAE, {}),
        (CONDITIONAL, {}),
        (CONDITIONAL, AVERAGED),
        ("autoencoder(latent=4,denoise=0.3)", {}),
        ("stylegan(latent=4,depth=2)", {}),
    ],
)
def test_n_and_n_is_2n_bit_for_bit(head: str, more: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path / "whole", head, **more)
    run(tmp_path / "half", head, **more, **{"run.steps": 32, "learner.learning_rate_anneal_agent_steps": 64})
    train(None, {"run.steps": 64}, resume=tmp_path / "half")
    a, b = (checkpoint.load(checkpoint.find(tmp_path / name)) for name in ("whole", "half"))
    for name in a.weights:
        assert torch.equal(a.weights[name], b.weights[name]), name
    scores = [
        json.loads((tmp_path / name / "checkpoints" / "step_000000000064.evaluation.json").read_text())
        for name in ("whole", "half")
    ]
    assert {**scores[0], "pictures_per_second": 0} == {**scores[1], "pictures_per_second": 0}


def test_averaged_weights_are_what_is_saved(tmp_path: Path) -> None:
    """With a step of 0 they stay those of the start, whatever is learned."""
    paths = [
        run(tmp_path / name, VAE, **(AVERAGED | {"run.steps": steps, "learner.target_ema": ema}))
        for name, steps, ema in (
            ("start", 16, 1e-9),
            ("end", 64, 1e-9),
            ("moved", 64, 1.0),
        )
    ]
    start, end, moved = (checkpoint.load(checkpoint.find(path)).weights for path in paths)
    assert all(
        torch.allclose(start[name], end[name], atol=1e-5) for name in start if "running" not in name and "batches" not in name
    )
    assert not all(torch.allclose(start[name], moved[name], atol=1e-5) for name in start)


def test_a_discriminator_that_becomes_nan_stops_the_run_and_leaves_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run(tmp_path / "run", CONDITIONAL, **{"run.steps": 32})
    plain = gans.discriminator_loss
    monkeypatch.setattr(gans, "discriminator_loss", lambda real, fake: plain(real, fake) * float("nan"))
    with pytest.raises(
        NotFiniteError, match=r"learner step 3: discriminator: losses/loss \(losses/value\) is not finite in 16 of 16"
    ):
        train(None, {"run.steps": 64}, resume=path)
    assert f"continue from step 32 with: rlsuite vision train --resume {path}" in capsys.readouterr().err
    assert checkpoint.find(path, resumable=True).name == "step_000000000032"
    SavedModel(path)


def test_pictures_are_written_while_it_trains_and_afterwards(tmp_path: Path) -> None:
    path = run(tmp_path / "gan", CONDITIONAL)
    board = EventAccumulator(str(path))
    board.Reload()
    assert [one.step for one in board.Images("eval/pictures")] == [32, 64]  # each evaluation, the last one twice
    saved = SavedModel(path)
    written = sample.write_samples(saved.model, tmp_path / "out", 20, 3, saved.bf16)
    assert [one.name for one in written] == ["grid.png", "interpolation.png", "classes.png"]
    assert [Image.open(one).size for one in written] == [(10 * 36 - 4, 2 * 36 - 4), (356, 356), (356, 176)]
    again = sample.write_samples(saved.model, tmp_path / "again", 20, 3, saved.bf16)
    assert [one.read_bytes() for one in again] == [one.read_bytes() for one in written]
    labelled = predict.show(saved, "test", tmp_path / "out", 1)
    assert Image.open(labelled[0].path).size == (320, 320)


def test_anomalies_are_what_was_left_out(tmp_path: Path) -> None:
    path = run(tmp_path / "vae", VAE, **{"data.leave_out": 3})
    saved = SavedModel(path)
    data = load_data(saved.config)
    assert 3 not in data.train.take(np.arange(len(data.train)))[1]["label"]
    assert 3 in data.test.take(np.arange(len(data.test)))[1]["label"]
    found = anomalies.rank(saved, "test", 100)
    assert len(found.names) == 100
    assert (np.diff(found.errors) <= 0).all()
    assert found.auroc is not None
    assert 0 <= found.auroc <= 1
    assert anomalies.rank(saved, "test", 100, "coarse").auroc != found.auroc
    with pytest.raises(UsageError, match="unknown --score 'corse'; did you mean coarse"):
        anomalies.rank(saved, "test", 100, "corse")
    picture = tmp_path / "mine.png"
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(picture)
    assert anomalies.rank(saved, str(picture), 5).auroc is None
    with pytest.raises(UsageError, match=r"data\.leave_out = 12: the classes are 0 to 9"):
        train("vision/digits", {**DIGITS, "data.leave_out": 12}, tmp_path / "no")
    with pytest.raises(UsageError, match=r"unknown data\.leave_out 'sneker'; did you mean sneaker"):
        left_out(ClassSection(name="mine", leave_out="sneker"), ["boot", "sneaker"])
    assert left_out(ClassSection(name="mine", leave_out=1), ["1", "2"]) == 0  # a class of that name comes before the number
    with pytest.raises(UsageError, match=r"data\.leave_out = 0: this data has no classes"):
        left_out(ClassSection(name="mine", leave_out=0), [])
    with pytest.raises(UsageError, match=r"data\.leave_out = 3: model\.head=conditional_gan.* needs pictures of every class"):
        run(tmp_path / "no", CONDITIONAL, **{"data.leave_out": 3})
    with pytest.raises(UsageError, match="is a published, but anomalies are what an autoencoder or a vae cannot make"):
        anomalies.rank(SavedModel(run(tmp_path / "classifier", "published", **{"model.backbone": "lenet"})), "test", 5)


def test_results_do_not_replace_pictures_nor_each_other(tmp_path: Path) -> None:
    saved = SavedModel(run(tmp_path / "vae", VAE))
    for name in ("a.png", "b.png", "b.bmp"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "mine" / name)
    found = predict.show(saved, str(tmp_path / "mine"), tmp_path / "out", 9)
    assert [one.path.name for one in found] == ["a.png", "b.bmp.png", "b.png.png"]
    for what in (tmp_path / "mine", tmp_path / "mine" / "a.png"):
        with pytest.raises(UsageError, match=r"a\.png would replace the picture that is read"):
            predict.show(saved, str(what), tmp_path / "mine", 9)
    assert Image.open(tmp_path / "mine" / "a.png").size == (40, 40)


def test_errors_of_pictures_by_hand() -> None:
    true, made = np.zeros((2, 1, 8, 8)), np.zeros((2, 1, 8, 8))
    true[:, :, :4] = 0.5
    made[0] = true[0] + 0.1
    made[1] = true[1] + 0.1 * np.where(np.arange(8) % 2 == 0, 1, -1)  # texture, of mean 0
    assert anomalies.squared(made, true).tolist() == pytest.approx([0.01, 0.01])
    assert anomalies.coarse(made, true).tolist() == pytest.approx([0.01 / 0.125**0.5, 0], abs=1e-5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("runs")
    kinds = {"gan": CONDITIONAL, "vae": VAE, "autoencoder": "autoencoder(latent=4)"}
    found = {name: run(path / name, head) for name, head in kinds.items()}
    return {**found, "classifier": run(path / "classifier", "published", **{"model.backbone": "lenet", "run.steps": 3200})}


def test_commands(runs: dict[str, Path], tmp_path: Path) -> None:
    def call(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0
        return json.loads(done.stdout)

    scored = call("evaluate", str(runs["gan"]), "--classifier", str(runs["classifier"]))["eval"]
    assert scored["frechet"] > 3 * scored["frechet_real"] > 0  # it has seen 64 pictures
    assert 0 <= scored["as_asked"] < 0.6
    assert {"balance", "d_real", "d_fake", "value", "confidence"} <= set(scored)
    assert "truncation" not in scored
    measured = call("evaluate", str(runs["gan"]), "--classifier", str(runs["classifier"]), "--truncation", "0.5")["eval"]
    assert measured["truncation"] == 0.5
    assert measured["frechet"] != scored["frechet"]
    scored = call("evaluate", str(runs["vae"]), "--classifier", str(runs["classifier"]))["eval"]
    assert "as_asked" not in scored
    assert {"elbo", "kl", "squared_error", "pca_squared_error", "frechet"} <= set(scored)
    written = call("sample", str(runs["vae"]), "--out", str(tmp_path), "--count", "4")["pictures"]
    assert [Path(one).name for one in written] == ["grid.png", "interpolation.png", "edits.png"]
    plain = [Path(one).read_bytes() for one in written]
    written = call("sample", str(runs["vae"]), "--out", str(tmp_path), "--count", "4", "--truncation", "0.5")["pictures"]
    assert [new == old for new, old in zip((Path(one).read_bytes() for one in written), plain, strict=True)] == [False, False, True]
    written = call("sample", str(runs["autoencoder"]), "--out", str(tmp_path))["pictures"]
    assert [Path(one).name for one in written] == ["edits.png"]
    assert Image.open(written[0]).size == (11 * 36 - 4, 10 * 36 - 4)
    scored = call("evaluate", str(runs["autoencoder"]), "--classifier", str(runs["classifier"]))["eval"]
    assert 0 <= scored["moved_as_asked"] <= 1
    assert "frechet" not in scored
    strange = call("anomalies", str(runs["autoencoder"]), "test", "--count", "30", "--out", str(tmp_path / "strange.png"))
    assert len(strange["ranked"]) == 30
    assert strange["auroc"] is None
    assert Image.open(tmp_path / "strange.png").size == (356, 68)


def test_a_truncation_that_changes_nothing_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    def refused(*words: str) -> str:
        with pytest.raises(UsageError) as error:
            CliRunner().invoke(app, [*words, "--truncation", "1"], catch_exceptions=False)
        return str(error.value)

    assert "leave it out" in refused("evaluate", str(runs["gan"]))
    assert "no generator" in refused("sample", str(runs["autoencoder"]), "--out", str(tmp_path))
    assert "no generator" in refused("evaluate", str(runs["autoencoder"]), "--classifier", str(runs["classifier"]))


def test_a_real_picture_is_near_real_ones(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that deals out training pictures is as near as the real half, and they are what was asked for."""
    gan, classifier = SavedModel(runs["gan"]), SavedModel(runs["classifier"])
    data = load_data(gan.config)
    images, labels = data.train.take(np.arange(len(data.train)))

    def dealt(model: Any, count: int, seed: int, bf16: bool, truncation: float | None) -> Any:
        return images[:count], labels["label"][:count]

    monkeypatch.setattr(frechet, "samples", dealt)
    found = frechet.compare(gan, classifier, data.test)
    assert found["frechet"] < 3 * found["frechet_real"]
    assert found["as_asked"] > 0.8
    with pytest.raises(UsageError, match="is to generate, not a classifier"):
        frechet.compare(gan, gan, data.test)


def test_codes_move_by_the_difference_of_class_means(monkeypatch: pytest.MonkeyPatch, runs: dict[str, Path]) -> None:
    """An autoencoder whose code is the picture: a move changes a picture by the difference of the mean pictures."""
    saved = SavedModel(runs["autoencoder"])
    monkeypatch.setattr(sample, "encoded", lambda model, images, bf16: torch.from_numpy(images).flatten(1).float())
    monkeypatch.setattr(sample, "decoded", lambda model, codes, labels, bf16: codes.numpy())
    train = InMemory(np.array([[10], [30], [100]], np.uint8).reshape(3, 1, 1, 1), {"label": np.array([4, 4, 7])})
    test = InMemory(np.array([[25], [90], [1]], np.uint8).reshape(3, 1, 1, 1), {"label": np.array([4, 7, 9])})
    data = Data(train, test, tuple("abcdefghij"), (1, 1, 1), ("classify",))
    edits = sample.edits_of(saved.model, data, bf16=False)
    assert edits is not None
    assert edits.classes.tolist() == [4, 7]  # nothing is known of class 9
    assert edits.means.tolist() == [[20], [100]]
    assert sample.moved(saved.model, edits, np.array([0, 0, 1]), np.array([0, 1, 0]), False).tolist() == [[25], [105], [10]]
    assert sample.edits_of(saved.model, data._replace(tasks=("segment",)), bf16=False) is None
    assert sample.edits_of(SavedModel(runs["gan"]).model, data, bf16=False) is None


def test_an_autoencoder_without_classes_has_nothing_to_sample(runs: dict[str, Path], tmp_path: Path) -> None:
    saved = SavedModel(runs["autoencoder"])
    data = load_data(saved.config)._replace(tasks=())
    with pytest.raises(UsageError, match="it has no generator"):
        sample.write_samples(saved.model, tmp_path, 4, 0, False, data)
    with pytest.raises(UsageError, match="has no generator to sample from: that takes a vae or a GAN"):
        sample.write_samples(SavedModel(runs["classifier"]).model, tmp_path, 4, 0, False)


def test_a_spatial_code_keeps_places(tmp_path: Path) -> None:
    saved = SavedModel(run(tmp_path / "run", "autoencoder(latent=2,spatial=true)"))
    maker = saved.model.maker
    assert maker.latent == 2 * 4 * 4
    images, _ = load_data(saved.config).test.take(np.arange(3))
    codes = sample.encoded(saved.model, images, False)
    assert codes.shape == (3, 32)
    assert sample.decoded(saved.model, codes, None, False).shape == images.shape
    changed = codes.clone()
    changed[:, 0] += 100  # the upper left place
    far = sample.decoded(saved.model, changed, None, False)[..., -8:, -8:]
    assert np.array_equal(far, sample.decoded(saved.model, codes, None, False)[..., -8:, -8:])
