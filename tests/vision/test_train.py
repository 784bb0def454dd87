"""Vision runs: they learn, resume exactly and exchange weights with agents; and their commands."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rlsuite
from rlsuite.core.errors import CheckpointError, UsageError
from rlsuite.core.types import EnvSpec
from rlsuite.evaluation.saved_agent import Saved
from rlsuite.nets.pretrained import load_backbones
from rlsuite.nets.torso import make_torso
from rlsuite.runs import checkpoint
from rlsuite.runs.callbacks import Callback, Evaluation, Run
from rlsuite.runs.progress import Progress
from rlsuite.vision import predict, probe
from rlsuite.vision.config import ModelConfig, load_config
from rlsuite.vision.data import Data, InMemory
from rlsuite.vision.supervised import DataStore, Supervised
from rlsuite.vision.train import Outcome, SavedModel, Training, train

TINY = {
    "data.pictures": 32,
    "data.size": 32,
    "model.backbone": "impala(norm=batch)",
    "learner.batch_size": 8,
    "run.steps": 48,
    "run.threads": 1,
    "run.device": "cpu",
}
PIXELS = {**TINY, "data.labels": "pixels", "model.neck": "none", "model.head": "unet(width=8)"}


def scenes(tmp_path: Path, **more: Any) -> Outcome:
    return train("vision/scenes_boxes", {**PIXELS, **more}, tmp_path / "run")


def test_a_store_samples_every_picture_before_it_repeats_one() -> None:
    images = np.arange(10, dtype=np.uint8).repeat(12).reshape(10, 3, 2, 2)
    store = DataStore(InMemory(images, {"label": np.arange(10)}), seed=1)
    first, second = store.sample(7), store.sample(7)
    seen = [*first.keys.tolist(), *second.keys.tolist()]
    assert sorted(seen[:10]) == list(range(10))
    assert seen[:10] != list(range(10))
    observation = first.trajectory.steps.observation
    assert observation.shape == (1, 7, 3, 2, 2)
    assert observation[0, :, 0, 0, 0].tolist() == first.keys.tolist() == first.trajectory.steps.extras["label"][0].tolist()
    other = DataStore(InMemory(images, {"label": np.arange(10)}), seed=5)
    other.load_state_dict(store.state_dict())
    assert other.sample(20).keys.tolist() == store.sample(20).keys.tolist()
    with pytest.raises(ValueError, match="the run had 10 pictures to train on, its data now has 3"):
        DataStore(InMemory(images[:3], {}), seed=1).load_state_dict(store.state_dict())


class Ending(Callback):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def start(self, run: Run) -> None:
        self.seen.append("start")

    def metrics(self, run: Run, values: object) -> None:
        run.stop("one update is enough")

    def checkpoint(self, run: Run, path: Path) -> None:
        self.seen.append(path.name)

    def evaluation(self, run: Run, result: Evaluation) -> None:
        assert result.score == result.scalars["eval/mIoU"]
        self.seen.append("evaluation")

    def end(self, run: Run, outcome: str) -> None:
        self.seen.append(outcome)


def test_callbacks_see_and_end_a_vision_run(tmp_path: Path) -> None:
    ending = Ending()
    outcome = train("vision/scenes_boxes", PIXELS, tmp_path / "run", callbacks=[ending])
    assert outcome.steps == 8
    assert ending.seen == ["start", "step_000000000008", "evaluation", "finished"]


def test_n_and_n_is_2n_bit_for_bit(tmp_path: Path) -> None:
    """With batch statistics, augmentation and random proposals."""
    config = {
        **TINY,
        "learner.augment.flip": True,
        "learner.augment.shift": 2,
        "model.head": "roi(hidden=16,proposals=20)",
        "learner.learning_rate_anneal_agent_steps": 48,
    }
    train("vision/scenes_boxes", config, tmp_path / "whole")
    train("vision/scenes_boxes", {**config, "run.steps": 24}, tmp_path / "half")
    train(None, {"run.steps": 48}, resume=tmp_path / "half")
    a, b = (checkpoint.load(checkpoint.find(tmp_path / name)) for name in ("whole", "half"))
    assert a.weights.keys() == b.weights.keys()
    for name in a.weights:
        assert torch.equal(a.weights[name], b.weights[name]), name


@pytest.mark.parametrize("place", ["_collect", "_learn", "measure"])
def test_what_raises_leaves_a_checkpoint_and_the_command_that_goes_on(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    method, run = getattr(Training, place), tmp_path / "run"

    def failing(training: Training, *given: Any) -> Any:
        if training.collected >= 24:
            raise OSError("the pictures are gone")
        return method(training, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Training, place, failing)
        with pytest.raises(OSError, match="the pictures are gone"):
            scenes(tmp_path, **{"eval.every_steps": 8})
    assert checkpoint.find(run, resumable=True).name == "step_000000000024"
    assert f"continue from step 24 with: rlsuite vision train --resume {run}" in capsys.readouterr().err
    assert train(None, resume=run).steps == 48


def test_a_signal_leaves_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect = Training._collect

    def signalled(training: Training) -> None:
        collect(training)
        if training.collected == 24:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "_collect", signalled)
    assert scenes(tmp_path).metrics is None
    assert checkpoint.find(tmp_path / "run", resumable=True).name == "step_000000000024"


def test_a_resume_says_what_changed_and_never_goes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = scenes(tmp_path, **{"run.steps": 16}).run
    capsys.readouterr()
    train(None, {"run.steps": 24, "learner.learning_rate": 2e-3}, resume=run)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[2].split(" ")[0] for line in lines if line.startswith("changed: ")] == [
        "learner.learning_rate",
        "run.steps",
        "the",  # schedule of the learning rate
    ]
    with pytest.raises(UsageError, match=r"run\.steps = 20: .* is already trained to 24 steps; raise run\.steps"):
        train(None, {"run.steps": 20}, resume=run)
    with pytest.raises(UsageError, match=r"is a run of vision/scenes_boxes, not of vision/digits"):
        train("vision/digits", resume=run)
    with pytest.raises(UsageError, match="name different folders"):
        train(None, run_dir=tmp_path / "other", resume=run)
    with pytest.raises(
        UsageError,
        match=r"data\.pictures 32 -> 16; .*does not fit this config: the run had 32 pictures to train on, its data now has 16",
    ):
        train(None, {"data.pictures": 16}, resume=run)


def test_an_evaluation_at_a_checkpoint_leaves_it_resumable(tmp_path: Path) -> None:
    """Periodic evaluations keep the best weights; where a whole checkpoint of that step exists, that one is kept."""
    settings = {"eval.every_steps": 8, "run.checkpoint_minutes": 1e-9, "run.steps": 24}
    run = scenes(tmp_path, **settings).run
    assert checkpoint.find(run, resumable=True).name == "step_000000000024"
    best = checkpoint.list_complete(run)[0]
    assert best.with_name(f"{best.name}.evaluation.json").exists()
    with pytest.raises(CheckpointError, match="for evaluation only"):  # older ones drop what only a resume needs
        checkpoint.load(best)


def test_a_run_leaves_the_files_of_an_agents_run(tmp_path: Path) -> None:
    done = scenes(tmp_path, **{"eval.every_steps": 16})
    assert done.metrics is not None
    assert set(done.metrics) == {"mIoU", "pixel_accuracy", "pictures_per_second"}
    run = done.run
    assert {"config.yaml", "run.json", "metrics.jsonl", "checkpoints"} <= {path.name for path in run.iterdir()}
    assert any(path.name.startswith("events.out") for path in run.iterdir())
    tags = {tag for line in (run / "metrics.jsonl").read_text().splitlines() for tag in json.loads(line)}
    assert {"losses/loss", "losses/pixel_accuracy", "charts/SPS", "eval/mIoU"} <= tags
    saved = SavedModel(run)
    assert saved.task == "segment"
    assert saved.classes[0] == "ground"
    assert json.loads((saved.path.parent / f"{saved.path.name}.evaluation.json").read_text()) == done.metrics


def test_evaluations_count_their_pictures_in_the_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str | None] = []
    monkeypatch.setattr(Progress, "update", lambda self, status: shown.append(status.more.get("evaluation")))
    scenes(tmp_path, **{"eval.every_steps": 16, "eval.pictures": 2, "eval.batch_size": 1})
    assert None in shown  # training
    assert shown.index("1 of 2 pictures") < shown.index("2 of 3 pictures")  # at the end on all of them


@pytest.mark.integration
def test_ctrl_c_writes_a_checkpoint(tmp_path: Path) -> None:
    script = (
        "import os, signal, threading; from rlsuite.vision.train import train; "
        "threading.Timer(6, lambda: os.kill(os.getpid(), signal.SIGINT)).start(); "
        f"print(train('vision/scenes_boxes', { ({**PIXELS, 'run.steps': 10**7})!r}, __import__('pathlib').Path('run')).metrics)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "None", done.stderr
    steps = checkpoint.load(checkpoint.find(tmp_path / "run", resumable=True)).agent_steps
    again = train(None, {"run.steps": steps + 8}, resume=tmp_path / "run")
    assert again.steps == steps + 8


@pytest.mark.integration
def test_weights_go_to_an_agent_and_back(tmp_path: Path) -> None:
    """By name: a torso starts from a vision model's backbone, frozen or not, and a vision model from a torso's."""
    atari = {
        **PIXELS,
        "data": {"name": "atari", "pictures": 10},
        "model.backbone": "impala",
        "model.head": "unet(width=8)",
    }
    for key in ("data.pictures", "data.size", "data.labels"):
        atari.pop(key)
    pictured = train("vision/scenes_boxes", atari, tmp_path / "vision").run
    agent = {
        "env.num_envs": 2,
        "run.agent_steps": 40,
        "run.device": "cpu",
        "run.threads": 1,
        "eval.episodes": 1,
        "env.max_frames": 200,
        "net.torso": "impala",
        "net.hidden": 8,
        "net.weights": str(pictured),
        "replay.capacity_agent_steps": 200,
        "replay.min_agent_steps": 16,
        "learner.batch_size": 4,
        "learner.learning_rate": 1e-2,
    }
    frozen = rlsuite.train("atari/dqn", {**agent, "net.freeze": True}, run_dir=tmp_path / "frozen").run
    tuned = rlsuite.train("atari/dqn", agent, run_dir=tmp_path / "tuned").run
    runs = {"pictured": pictured, "frozen": frozen, "tuned": tuned}
    of = {name: checkpoint.load(checkpoint.find(run), weights_only=True).weights for name, run in runs.items()}

    def backbone(name: str) -> dict[str, torch.Tensor]:
        return {key.split("backbone.")[1]: value for key, value in of[name].items() if "backbone." in key}

    assert all(torch.equal(value, backbone("frozen")[key]) for key, value in backbone("pictured").items())
    assert not all(torch.equal(value, backbone("tuned")[key]) for key, value in backbone("pictured").items())
    (pictured / "checkpoints").rename(tmp_path / "gone")  # a run that goes on has its own weights
    rlsuite.train(resume=tmp_path / "frozen", overrides={"run.agent_steps": 60})
    back = train("vision/scenes_boxes", {**atari, "model.weights": str(tuned), "model.freeze": True}, tmp_path / "back").run
    learned = checkpoint.load(checkpoint.find(back), weights_only=True).weights
    assert all(torch.equal(value, learned[f"backbone.{key}"]) for key, value in backbone("tuned").items())
    with pytest.raises(CheckpointError, match="holds the weights of another net"):
        rlsuite.train("atari/dqn", {**agent, "net.torso": "nature", "net.weights": str(tuned)}, run_dir=tmp_path / "no")
    with pytest.raises(UsageError, match="is of an agent, not of a vision model"):
        SavedModel(tuned)
    with pytest.raises(UsageError, match="is the config of a vision model"):
        Saved(back)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("head", "backbone", "torso", "config"),
    [
        ("vae(latent=4)", "small", "small", "atari/dqn"),
        ("autoencoder(latent=4)", "dcgan(width=4,depth=3)", "dcgan(width=4,depth=3,norm=none)", "atari/ppo"),  # folded
    ],
)
def test_an_agent_starts_from_an_autoencoder(head: str, backbone: str, torso: str, config: str, tmp_path: Path) -> None:
    """Frozen, fine-tuned, and with a decoder of its own that learns on its features."""
    pictures = {"data.pictures": 10, "model.backbone": backbone, "model.head": head, "learner.batch_size": 4, "run.steps": 16}
    made = train("vision/vae_frames", {**pictures, "run.threads": 1, "run.device": "cpu"}, tmp_path / "pictures").run
    agent = {
        "env.num_envs": 2,
        "run.agent_steps": 40,
        "run.device": "cpu",
        "run.threads": 1,
        "eval.episodes": 1,
        "eval.every_agent_steps": None,
        "env.max_frames": 200,
        "net.torso": torso,
        "net.hidden": 8,
        "net.weights": str(made),
        "net.auxiliary": "reconstruct(latent=4)",
        "agent.novelty": "rnd(width=8)",
        "learner.learning_rate": 1e-2,
        "learner.precision": "fp32",
    }
    if config == "atari/dqn":
        agent |= {"replay.capacity_agent_steps": 200, "replay.min_agent_steps": 16, "learner.batch_size": 4}
    else:
        agent |= {"run.collect_agent_steps": 8, "learner.batch_size": 2, "agent.minibatches": 2}

    def backbone_of(name: str, **more: Any) -> dict[str, torch.Tensor]:
        run = rlsuite.train(config, {**agent, **more}, run_dir=tmp_path / name).run
        weights = checkpoint.load(checkpoint.find(run), weights_only=True).weights
        return {key: value for key, value in weights.items() if "backbone." in key}

    frozen, tuned = backbone_of("frozen", **{"net.freeze": True}), backbone_of("tuned")
    start = make_torso(torso, 8, EnvSpec((4, 84, 84), "uint8", 3, None, 4, 4))
    random = {key: value.clone() for key, value in start.state_dict().items()}
    load_backbones(start, made)
    for key, value in start.state_dict().items():
        theirs = next(name for name in frozen if name.endswith(key))
        assert torch.equal(value, frozen[theirs])
        if value.dim() == 4:
            assert not torch.equal(value, tuned[theirs])
            assert not torch.equal(value, random[key])
    rows = [json.loads(line) for line in (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert any(0 < row.get("losses/reconstruction", 0) < 1 for row in rows)


def test_layer_decay_moves_early_stages_less(tmp_path: Path) -> None:
    rates = {"model.layer_decay": 1e-6, "learner.optimizer": "sgd", "learner.learning_rate": 0.05}
    start = scenes(tmp_path / "a", **{**rates, "run.steps": 1, "learner.batch_size": 1})
    end = scenes(tmp_path / "b", **rates)
    a, b = (checkpoint.load(checkpoint.find(done.run), weights_only=True).weights for done in (start, end))
    moved = {name: float((a[name] - b[name]).abs().max()) for name in a if "running" not in name and "num_batches" not in name}
    assert max(value for name, value in moved.items() if name.startswith("backbone.")) < 1e-5
    assert max(value for name, value in moved.items() if name.startswith("head.")) > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.head": "linear"}, "model.head=linear is to classify, but the labels of this data are to segment"),
        ({"model.hed": "unet"}, "unknown key model.hed; did you mean model.head"),
        ({"data.picturs": 3}, "unknown key data.picturs; did you mean data.pictures"),
        ({"data.name": "scene"}, "unknown data.name 'scene'; did you mean scenes"),
        ({"learner.target_ema": 0.1}, r"learner\.target_ema.* = 0\.1 .*learner\.act_with_target = true"),
        ({"learner.resets.every_agent_steps": 9}, r"learner\.resets: only agents have that"),
        ({"agent": {"name": "dqn"}}, "is the config of an agent"),
        ({"run.steps": 0}, "run.steps = 0"),
        ({"run.device": "cuda"}, "no CUDA device" if not torch.cuda.is_available() else "never"),
    ],
)
def test_what_a_vision_config_refuses(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    if message == "never":
        return
    with pytest.raises(UsageError, match=message):
        train("vision/scenes_boxes", {**PIXELS, **changes}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_vision_config_is_not_an_agents() -> None:
    with pytest.raises(UsageError, match="rlsuite vision train vision/digits"):
        rlsuite.train("vision/digits")
    with pytest.raises(UsageError, match="predicts masks, but this data has boxes only"):
        train("vision/pong_boxes", {"model.head": "roi(mask=8)", "model.neck": "fpn", "data.pictures": 10})


@pytest.mark.parametrize("head", ["roi(mask=0)", "roi(mode=fast)"])
def test_a_head_without_masks_needs_none_in_the_labels(head: str) -> None:
    boxes = InMemory(np.zeros((2, 3, 32, 32), np.uint8), {"boxes": np.zeros((2, 1, 4), np.float32)})
    model = ModelConfig(backbone="impala", neck="fpn", head=head)
    assert Supervised(model, Data(boxes, boxes, ("none", "ball"), (3, 32, 32), ("detect",))).task == "detect"


@pytest.mark.parametrize(
    "name",
    [
        *("digits", "fashion_mnist", "pong_boxes", "scenes_boxes", "scenes_masks", "space_invaders_colours"),
        *("text_line", "breakout_score", "pong_score", "scenes_captions", "pong_sentences", "number_words"),
    ],
)
def test_shipped_configs_resolve(name: str) -> None:
    assert load_config(f"vision/{name}").name == f"vision/{name}"


def test_predictions_are_drawn(tmp_path: Path) -> None:
    found = train("vision/scenes_boxes", {**TINY, "model.head": "roi(hidden=16,proposals=20,mask=8)"}, tmp_path / "run").run
    saved = SavedModel(found)
    written = predict.show(saved, "test", tmp_path / "out", 2)
    assert [(one.path.name, one.text) for one in written] == [("test_00000.png", None), ("test_00002.png", None)]
    assert Image.open(written[0].path).size == (320, 320)
    Image.fromarray(np.zeros((50, 70, 3), np.uint8)).save(tmp_path / "mine.png")
    assert [one.path.name for one in predict.show(saved, str(tmp_path / "mine.png"), tmp_path / "out", 5)] == ["mine.png"]
    assert len(predict.show(saved, "ALE/Pong-v5", tmp_path / "out", 2)) == 2
    for what, message in (("nothing", "is not a picture"), ("no.mp4", "does not exist")):
        with pytest.raises(UsageError, match=message):
            predict.show(saved, what, tmp_path / "out", 5)


def test_probes_read_a_linear_variable_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 20))
    assert probe.r_squared(x, x @ rng.normal(size=20) + 3, 200) > 0.99
    assert abs(probe.r_squared(x, rng.normal(size=400), 200)) < 0.2


@pytest.mark.integration
def test_probe_of_a_run(tmp_path: Path) -> None:
    settings = {
        "env.num_envs": 2,
        "run.agent_steps": 8,
        "run.device": "cpu",
        "run.threads": 1,
        "eval.episodes": 1,
        "env.max_frames": 100,
        "net.hidden": 8,
        "replay.capacity_agent_steps": 100,
        "replay.min_agent_steps": 50,
    }
    run = rlsuite.train("atari/dqn", {**settings, "env.id": "ALE/Pong-v5"}, run_dir=tmp_path / "run").run
    saved, found, played = probe.probe(run, 60)
    assert {row.variable for row in found} <= {"ball_x", "ball_y", "player_y", "enemy_y"}
    assert found
    usual = played[-1].planes.copy()
    usual[:, 40:50, 30:40] += 90  # the only place where this picture is not as usual
    heat = probe.saliency(saved, played[-1].planes, usual)
    assert heat.shape == (84, 84)
    assert heat[38:52, 28:42].max() == heat.max() > 0
    assert heat[:25].max() < 1e-6
    probe.draw_saliency(saved, played, tmp_path / "saliency.png", count=3)
    assert Image.open(tmp_path / "saliency.png").size == (3 * 336 + 8, 336)
    with pytest.raises(UsageError, match=r"cannot be written as \.xyz; use \.png"):
        probe.draw_saliency(saved, played, tmp_path / "saliency.xyz", count=1)


@pytest.mark.integration
def test_commands(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "rlsuite", "vision", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    given = [f"{key}={value}" for key, value in PIXELS.items()]
    trained = json.loads(call("train", "vision/scenes_boxes", *given, "--run-dir", "run", "--json"))
    assert trained["steps"] == 48
    scored = json.loads(call("evaluate", "run", "--json"))["eval"]
    assert scored["mIoU"] == pytest.approx(trained["eval"]["mIoU"], abs=1e-6)
    pictures = json.loads(call("predict", "run", "test", "--out", "out", "--count", "1", "--json"))["pictures"]
    assert (tmp_path / pictures[0]).is_file()


@pytest.mark.integration
@pytest.mark.parametrize("broken", [False, True])
def test_without_torchvision_and_with_a_broken_one(tmp_path: Path, broken: bool) -> None:
    """No module of ours imports it; a command that needs it reports what is wrong with it."""
    if broken:  # as beside a torch of another build
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    else:
        (tmp_path / "torchvision.py").write_text("raise ModuleNotFoundError(\"No module named 'torchvision'\")")
    script = (
        "import sys, pkgutil, importlib, rlsuite\n"
        "for m in pkgutil.walk_packages(rlsuite.vision.__path__ if hasattr(rlsuite, 'vision') else [], 'rlsuite.vision.'):\n"
        "    importlib.import_module(m.name)\n"
        "import rlsuite.vision.train, rlsuite.vision.predict, rlsuite.vision.probe, rlsuite.nets.pretrained as t\n"
        "assert 'torchvision' not in sys.modules\n"
        "try:\n"
        "    t.pretrained('torchvision:resnet18')\n"
        "except rlsuite.core.errors.UsageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "torchvision cannot be imported here" in done.stdout
    assert ("does not exist" in done.stdout) == broken
