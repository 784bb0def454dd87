"""Style transfer: Gram matrices and AdaIN by hand, losses that fall, pictures of games, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from rlsuite.cli.vision import app
from rlsuite.core.errors import UsageError
from rlsuite.nets.backbones import make_backbone
from rlsuite.nets.pretrained import in_order_of
from rlsuite.vision import style
from rlsuite.vision.sample import remade
from rlsuite.vision.train import SavedModel, train


def test_a_gram_matrix_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # two channels of two places
    assert style.gram(maps).tolist() == [[5 / 4, 11 / 4], [11 / 4, 25 / 4]]
    assert torch.equal(style.gram(maps), style.gram(maps.flip(3)))  # places do not matter


def test_adain_by_hand() -> None:
    x, y = torch.tensor([[[[0.0, 1.0, 2.0]]]]), torch.tensor([[[[5.0, 9.0, 13.0]]]])
    torch.testing.assert_close(style.adain(x, y), y, atol=1e-3, rtol=1e-3)


def test_losses_fall_and_the_picture_is_between_the_two() -> None:
    torch.manual_seed(0)
    net = make_backbone("impala", 3)
    rng = np.random.default_rng(0)
    content = np.zeros((3, 32, 32), np.uint8)
    content[:, 8:24, 8:24] = 200
    found = style.transfer(net, content, rng.integers(0, 256, (3, 32, 32)).astype(np.uint8), 30, 1e3)
    assert found.picture.shape == (3, 32, 32)
    assert found.style[1] < 0.5 * found.style[0]
    begun = style.transfer(net, content, rng.integers(0, 256, (3, 32, 32)).astype(np.uint8), 30, 1.0, noise=True)
    assert begun.content[1] < begun.content[0]
    only = style.transfer(net, content, content, 5, 1.0)
    assert np.abs(only.picture.astype(int) - content).max() <= 30
    with pytest.raises(UsageError, match="layer 3: the backbone has maps 0 to 2"):
        style.transfer(net, content, content, 5, 1.0, layer=3)


def test_games_are_seen_in_colour() -> None:
    pong = style.picture_of("ALE/Pong-v5", 3, (84, 80))
    assert pong.shape == (3, 84, 80)
    assert (pong[0] != pong[2]).mean() > 0.5
    assert style.picture_of("ALE/Pong-v5", 1, (84, 80)).shape == (1, 84, 80)
    with pytest.raises(UsageError, match="'pong' is not a picture or an Atari environment"):
        style.picture_of("pong", 3, (84, 80))


def test_the_command_takes_runs_and_files_of_weights(tmp_path: Path) -> None:
    save_file(in_order_of(make_backbone("impala", 3).state_dict()), tmp_path / "net.safetensors")
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    tiny = {"data.pictures": 16, "data.size": 32, "data.labels": "pixels", "run.steps": 8, "run.threads": 1, "run.device": "cpu"}
    model = {"model.backbone": "impala", "model.neck": "none", "model.head": "unet(width=8)", "learner.batch_size": 8}
    path = train("vision/scenes_boxes", {**tiny, **model}, tmp_path / "run").run
    for weights in (["--weights", str(path)], ["--weights", str(tmp_path / "net.safetensors"), "--backbone", "impala"]):
        words = ["style", "ALE/Pong-v5", str(tmp_path / "grey.png"), *weights, "--size", "40", "--steps", "3"]
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out.png"), "--json"], catch_exceptions=False)
        assert done.exit_code == 0
        assert set(json.loads(done.stdout)) == {"content", "style", "picture"}
        assert Image.open(tmp_path / "out.png").size == (128, 40)
    with pytest.raises(UsageError, match="does not say which backbone it is of: add --backbone"):
        style.backbone_of(tmp_path / "net.safetensors", None)


def test_one_pass_through_an_autoencoder(tmp_path: Path) -> None:
    tiny = {"data.pictures": 16, "data.size": 32, "run.steps": 8, "run.threads": 1, "run.device": "cpu"}
    model = {"model.backbone": "impala", "model.neck": "none", "learner.batch_size": 8}
    path = train("vision/scenes_boxes", {**tiny, **model, "model.head": "autoencoder(latent=4,spatial=true)"}, tmp_path / "run").run
    saved = SavedModel(path)
    rng = np.random.default_rng(0)
    content, aim = rng.integers(0, 100, (3, 32, 32)).astype(np.uint8), rng.integers(50, 256, (3, 32, 32)).astype(np.uint8)
    again = style.stylise(saved, content, aim, share=0.0)
    assert np.array_equal(again.picture, remade(saved.model, content[None], False)[0])
    styled = style.stylise(saved, content, aim)
    assert not np.array_equal(styled.picture, again.picture)
    assert np.array_equal(style.stylise(saved, content, content).picture, again.picture)  # its own statistics change nothing
    words = ["style", "ALE/Pong-v5", "ALE/Breakout-v5", "--weights", str(path), "--adain", "--out", str(tmp_path / "out.png")]
    done = CliRunner().invoke(app, [*words, "--share", "0.5", "--json"], catch_exceptions=False)
    assert set(json.loads(done.stdout)) == {"content", "style", "picture"}
    assert Image.open(tmp_path / "out.png").size == (3 * 36 - 4, 32)
    for more, message in (
        (["--steps", "3"], "--steps has no effect with --adain; leave it out"),
        (["--noise"], "--noise has no effect with --adain"),
    ):
        with pytest.raises(UsageError, match=message):
            CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
    with pytest.raises(UsageError, match="--share has no effect without --adain"):
        CliRunner().invoke(app, ["style", "a", "b", "--weights", str(path), "--share", "1"], catch_exceptions=False)


def test_a_pass_needs_a_decoder(tmp_path: Path) -> None:
    tiny = {"data.pictures": 16, "data.size": 32, "data.labels": "pixels", "run.steps": 8, "run.threads": 1, "run.device": "cpu"}
    model = {"model.backbone": "impala", "model.neck": "none", "model.head": "unet(width=8)", "learner.batch_size": 8}
    path = train("vision/scenes_boxes", {**tiny, **model}, tmp_path / "run").run
    words = ["style", "ALE/Pong-v5", "ALE/Breakout-v5", "--adain", "--weights"]
    with pytest.raises(UsageError, match=r"is a unet\(width=8\), which decodes no features: --adain needs an autoencoder or vae"):
        CliRunner().invoke(app, [*words, str(path)], catch_exceptions=False)
    save_file(in_order_of(make_backbone("impala", 3).state_dict()), tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match=r"--adain needs the run of an autoencoder: .*net.safetensors holds a backbone alone"):
        CliRunner().invoke(app, [*words, str(tmp_path / "net.safetensors")], catch_exceptions=False)
