"""pix2pix, CycleGAN and StarGAN: losses by hand, turns, data of pairs and of domains, runs and commands."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from rlsuite.cli.vision import app
from rlsuite.config.schema import LearnerConfig
from rlsuite.core.errors import UsageError
from rlsuite.learning.learner import Learner
from rlsuite.nets.precision import inference
from rlsuite.runs import checkpoint
from rlsuite.vision import translate
from rlsuite.vision.baselines import mean_target_l1
from rlsuite.vision.config import ModelConfig
from rlsuite.vision.data import Data, InMemory, atari, recoloured
from rlsuite.vision.generation import translation
from rlsuite.vision.model import HEADS, make_model
from rlsuite.vision.supervised import DataStore, Supervised
from rlsuite.vision.train import SavedModel, train

CRITIC = "discriminator=dcgan(width=4,depth=2),width=8"
BACKBONE = "dcgan(width=8,depth=2,norm=instance)"


def domains(count: int = 2) -> Data:
    rng = np.random.default_rng(0)
    label = np.arange(12) % count
    images = rng.integers(0, 80, (12, 3, 16, 16)).astype(np.uint8)
    images[np.arange(12), label] += 100
    part = InMemory(images, {"label": label})
    return Data(part, part, tuple("abcd"[:count]), (3, 16, 16), ("classify",))


def pairs() -> Data:
    data = domains(3)
    part = InMemory(data.train.take(np.arange(12))[0], {"target": 255 - data.train.take(np.arange(12))[0][:, :1]})
    return Data(part, part, ("grey",), (3, 16, 16), ("translate",))


CASES = [("pix2pix", pairs()), ("cyclegan", domains()), ("stargan", domains(3))]


def test_every_translator_is_covered() -> None:
    assert {name for name, _ in CASES} == {name for name, kind in HEADS.items() if kind.task == "translate"}


def learner(head: str, data: Data, **more: Any) -> Learner:
    task = Supervised(ModelConfig(backbone=BACKBONE, head=f"{head}({CRITIC})"), data)
    return Learner(
        task, LearnerConfig(**{"learning_rate": 2e-3, "optimizer_epsilon": 1e-8, "channels_last": False, **more}), seed=1
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("head", "data"), CASES)
def test_a_turn_trains_its_part_only_and_pictures_come_closer(head: str, data: Data, precision: str) -> None:
    torch.manual_seed(0)
    one, seen, losses = learner(head, data, precision=precision), set(), []
    turn = one._turn

    def watched(part: Any, *given: Any) -> Any:
        before = {name: p.detach().clone() for name, p in one.online.master.named_parameters()}
        out = turn(part, *given)
        moved = [name for name, p in one.online.master.named_parameters() if not torch.equal(p, before[name])]
        seen.update((part.name, "discriminator" if "critic" in name else "generator") for name in moved)
        return out

    one._turn = watched  # type: ignore[method-assign]
    store = DataStore(data.train, 1)
    for _ in range(25):
        metrics = one.step(one.stage(store.sample(12))).metrics
        losses.append(float(metrics["losses/l1" if head == "pix2pix" else "losses/cycle"]))
    assert seen == {("discriminator", "discriminator"), ("generator", "generator")}
    assert losses[-1] < 0.8 * losses[0]
    images = torch.from_numpy(data.test.take(np.arange(5))[0])
    with inference(torch.device("cpu"), precision == "bf16"):
        found = one.net.predict(images)  # type: ignore[operator]
    shape = {"pix2pix": (5, 1, 1, 16, 16), "cyclegan": (5, 2, 3, 16, 16), "stargan": (5, 3, 3, 16, 16)}[head]
    assert found.shape == shape


def test_what_pix2pix_is_measured_by_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pixels of two classes: 0 0 1 1, taken for 0 1 1 1 with brightness 0.75 to 0.25."""
    head = make_model(BACKBONE, f"pix2pix({CRITIC})", 2, 3, size=(16, 16)).head
    assert isinstance(head, translation.Pix2pix)
    true = torch.tensor([[[[1, 1, 0, 0]], [[0, 0, 1, 1]]]], dtype=torch.uint8) * 255  # [1,2,1,4]
    made = torch.tensor([[[[0.75, 0.25, 0.25, 0.25]], [[0.25, 0.75, 0.75, 0.75]]]])
    monkeypatch.setattr(head, "translate", lambda *given: made)
    found = head.scores(torch.zeros(1, 3, 1, 4), {"target": true}, lambda x: [x], torch.Generator())
    means = head.metrics({name: float(value.mean()) for name, value in found.items()})
    assert means == pytest.approx(
        {"psnr": -10 * math.log10(1.5 / 8), "l1": 3 / 8, "squared_error": 1.5 / 8, "mIoU": (1 / 2 + 2 / 3) / 2}, rel=1e-6
    )


def test_the_mean_target_as_an_answer_by_hand() -> None:
    def targets(*greys: int) -> InMemory:
        return InMemory(np.zeros((len(greys), 1, 2, 2), np.uint8), {"target": np.array(greys, np.uint8).reshape(-1, 1, 1, 1)})

    assert mean_target_l1(targets(0, 51), targets(51, 0, 102)) == pytest.approx((0.1 + 0.1 + 0.3) / 3)


class Fixed(translation.Domains):
    """A translation that adds 0.25 on the way to domain 1 and takes 0.1 on the way to 0; D is 0.2, of real ones 0.5."""

    def __init__(self) -> None:
        super().__init__(2, cycle=10, identity=4, domain=2, rate=1)
        self.judgements = iter([0.2, 0.5])

    def translate(self, pictures: Tensor, to: Tensor, embed: Any) -> Tensor:
        return pictures + torch.where(to == 1, 0.25, -0.1)[:, None, None, None]

    def judge(self, pictures: Tensor, domain: Tensor) -> tuple[Tensor, Tensor | None]:
        return torch.full((len(pictures), 3, 3), next(self.judgements)), torch.zeros(len(pictures), 2)


def test_the_losses_between_domains_by_hand() -> None:
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), {"label": torch.tensor([0, 1])}
    loss, _ = Fixed().losses([], images, labels, lambda x: [x], "generator")
    log2 = 0.6931472
    assert loss.tolist() == pytest.approx([0.8**2 + 10 * 0.15 + 4 * own + 2 * log2 for own in (0.1, 0.25)])
    loss, _ = Fixed().losses([], images, labels, lambda x: [x], "discriminator")
    assert loss.tolist() == pytest.approx([0.5**2 + 0.2**2 + 2 * log2] * 2)


def test_another_domain_is_never_the_own_one() -> None:
    star = make_model(BACKBONE, f"stargan({CRITIC})", 4, 3, size=(16, 16)).head
    assert isinstance(star, translation.StarGan)
    own = torch.arange(400) % 4
    to = star.other(own)
    assert set(((to - own) % 4).tolist()) == {1, 2, 3}


def test_pictures_go_to_the_net_of_their_domain_and_come_back_in_order() -> None:
    x = torch.arange(6.0)[:, None]
    found = translation.by_domain([lambda y: y + 100, lambda y: y + 200], x, torch.tensor([1, 0, 0, 1, 1, 0]))
    assert found[:, 0].tolist() == [200, 101, 102, 203, 204, 105]
    assert translation.by_domain([lambda y: y / 0, lambda y: y], x, torch.ones(6, dtype=torch.long)).equal(x)


def test_recoloured_pictures_have_one_colouring_each() -> None:
    config = recoloured.Config(name="recoloured", colours=["white", "inverted", "red"])
    data = recoloured.load(config, 1)
    images, labels = data.train.take(np.arange(300))
    assert data.classes == ("white", "inverted", "red")
    assert (images[labels["label"] == 2][:, 1:] == 0).all()
    assert images[labels["label"] == 1].mean() > 128 > images[labels["label"] == 0].mean()
    again = recoloured.load(config.model_copy(update={"labels": "classes"}), 2)
    assert again.classes == tuple("0123456789")
    assert (again.train.take(np.arange(300))[0] == images).all()
    with pytest.raises(UsageError, match=r"data\.colours = red, red: each may be there once"):
        recoloured.load(recoloured.Config(name="recoloured", colours=["red", "red"]), 1)


def test_maps_of_a_games_colours_are_pictures_of_planes() -> None:
    config = atari.Config(name="atari", pictures=10, labels="frames", height=42, width=42)
    data, plain = atari.load(config, 1), atari.load(config.model_copy(update={"labels": "colours"}), 1)
    images, labels = data.train.take(np.arange(10))
    frames, masks = plain.train.take(np.arange(10))
    assert data.shape == (len(plain.classes), 42, 42)
    assert set(np.unique(images)) == {0, 255}
    assert (images.argmax(1) == masks["mask"]).all()
    assert (images.sum(1, dtype=np.int64) == 255).all()
    assert (labels["target"] == frames[:, -1:]).all()
    turned = atari.load(config.model_copy(update={"labels": "maps"}), 1)
    assert turned.classes == plain.classes
    assert (turned.train.take(np.arange(10))[0] == frames).all()
    assert (turned.train.take(np.arange(10))[1]["target"] == images).all()


@pytest.mark.parametrize(
    ("head", "classes", "message"),
    [
        ("stargan", 1, "1 domain: there must be two classes of pictures at least"),
        ("cyclegan", 3, "a cyclegan translates between two classes of pictures, these have 3: use stargan"),
        ("stargan(discriminator=dgan)", 3, "unknown backbone 'dgan'; did you mean dcgan"),
    ],
)
def test_what_a_translator_refuses(head: str, classes: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_model("impala", head, classes, 3, size=(16, 16))


def test_pairs_are_needed_for_pix2pix() -> None:
    with pytest.raises(UsageError, match="pix2pix is to translate, but the labels of this data are to classify"):
        Supervised(ModelConfig(backbone="impala", head="pix2pix"), domains())


DIGITS = {
    "data": {"name": "recoloured", "colours": ["white", "red", "inverted"]},
    "model.backbone": BACKBONE,
    "model.head": f"stargan({CRITIC})",
    "learner.batch_size": 16,
    "learner.augment": {},
    "run.steps": 64,
    "run.threads": 1,
    "run.device": "cpu",
    "eval.every_steps": 32,
    "eval.pictures": 20,
}


def test_runs_resume_bit_for_bit_and_are_judged(tmp_path: Path) -> None:
    train("vision/digits", DIGITS, tmp_path / "whole")
    train("vision/digits", {**DIGITS, "run.steps": 32, "learner.learning_rate_anneal_agent_steps": 64}, tmp_path / "half")
    train(None, {"run.steps": 64}, resume=tmp_path / "half")
    a, b = (checkpoint.load(checkpoint.find(tmp_path / name)) for name in ("whole", "half"))
    for name in a.weights:
        assert torch.equal(a.weights[name], b.weights[name]), name

    def call(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0
        return json.loads(done.stdout)

    written = call("translate", str(tmp_path / "whole"), "test", "--count", "2", "--out", str(tmp_path / "out"))["pictures"]
    assert [Image.open(one).size for one in written] == [(32, 128)] * 2
    lenet = {"model.backbone": "lenet", "model.head": "published", "run.steps": 16}
    colours = train("vision/digits", {**DIGITS, **lenet}, tmp_path / "colours").run
    digits = train("vision/digits", {**DIGITS, **lenet, "data": {**DIGITS["data"], "labels": "classes"}}, tmp_path / "digits").run  # type: ignore[dict-item]
    scored = call("evaluate", str(tmp_path / "whole"), "--classifier", str(colours))["eval"]
    assert {"cycle_psnr", "d_real", "d_fake", "domain_right"} <= set(scored)
    scored = call("evaluate", str(tmp_path / "whole"), "--classifier", str(digits))["eval"]
    assert 0 <= scored["class_kept"] <= 1
    with pytest.raises(UsageError, match="is a published, but pix2pix, cyclegan and stargan translate pictures"):
        translate.show(SavedModel(digits), "test", tmp_path / "out", 1)


def test_a_run_of_pix2pix(tmp_path: Path) -> None:
    frames = {"name": "atari", "pictures": 20, "labels": "frames", "height": 42, "width": 42}
    path = train("vision/digits", {**DIGITS, "data": frames, "model.head": f"pix2pix({CRITIC})"}, tmp_path / "run").run
    written = translate.show(SavedModel(path), "test", tmp_path / "out", 1)
    assert Image.open(written[0]).size == (42, 84)
    for other in ("ALE/Pong-v5", str(written[0])):
        with pytest.raises(UsageError, match=r"takes maps of a game's colours .*: use 'test'"):
            translate.show(SavedModel(path), other, tmp_path / "other", 1)
