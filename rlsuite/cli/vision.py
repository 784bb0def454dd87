"""`rlsuite vision`: models on the backbones of the agents. Heavy imports are inside the commands."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rlsuite.cli.common import (
    HELP_OPTIONS,
    ConfigArguments,
    Json,
    Resume,
    RunDir,
    RunOrCheckpoint,
    Trust,
    config_and_overrides,
    examples,
    family,
    print_json,
)
from rlsuite.core.console import command, say

app = family(
    help="Train, evaluate and probe vision models. They share the agents' backbones.",
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
)


Beam = Annotated[
    int | None, typer.Option(min=1, help="Beam width of models that read text: candidates kept at every step; default: 1, greedy.")
]

Truncation = Annotated[
    float | None,
    typer.Option(min=0.1, help="Draw numbers of random codes beyond ± this again: more typical pictures, less variety."),
]


def _describe_metrics(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:,.0f}" if abs(value) >= 1000 else f"{name} {value:.4g}" for name, value in metrics.items())


@app.command(
    epilog=examples(
        "rlsuite vision train vision/digits",
        "rlsuite vision train vision/pong_boxes run.minutes=5 seed=3",
        "rlsuite vision train vision/digits model.backbone=mobilenet_v2 model.head=linear",
        "rlsuite vision train --resume runs/vision-digits__seed1__20260101-120000 run.steps=100_000",
    )
)
def train(
    arguments: ConfigArguments = None, run_dir: RunDir = None, resume: Resume = None, as_json: Json = False, trust: Trust = False
) -> None:
    """Train a model on labelled pictures, then evaluate it. Ctrl-C saves a checkpoint; --resume continues from it."""
    from rlsuite.vision import train as training

    config, overrides = config_and_overrides(arguments)
    result = training.train(config, overrides, run_dir, resume)
    if as_json:
        print_json(result.as_dict())
    elif result.metrics is None:
        again = command("rlsuite", "vision", "train", "--resume", result.run)
        say(f"stopped at {result.steps:,} pictures; continue with: {again}", sys.stdout)
    else:
        print(f"{result.steps:,} pictures, {result.wall_seconds:,.0f} s\n{_describe_metrics(result.metrics)}")
        predict = command("rlsuite", "vision", "predict", result.run, "test", "--out", "pictures")
        print(f"\n{predict}\n{command('tensorboard', '--logdir', result.run)}")
    if result.metrics is None:
        raise typer.Exit(130)


@app.command(
    epilog=examples(
        "rlsuite vision evaluate runs/vision-digits__seed1__20260101-120000 --json",
        "rlsuite vision evaluate runs/my-detector --out report",
        "rlsuite vision evaluate runs/my-dcgan --classifier runs/my-classifier",
        "rlsuite vision evaluate runs/my-reader --beam 8",
    )
)
def evaluate(
    run_or_checkpoint: RunOrCheckpoint,
    classifier: Annotated[
        Path | None,
        typer.Option(help="Run of a classifier on the same data, whose features give the Fréchet distance of generated pictures."),
    ] = None,
    truncation: Truncation = None,
    beam: Beam = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write PNG files to: confusion matrices and, for detectors, precision-recall curves."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a saved model on its test pictures; models that find classes also get precision and recall per class.

    For detectors, these are at an IoU of 0.5 and at the score threshold with the largest F1.
    """
    from rlsuite.core import cpu
    from rlsuite.core.errors import UsageError
    from rlsuite.vision import report
    from rlsuite.vision import train as training
    from rlsuite.vision.evaluate import evaluate as score

    saved = training.SavedModel(run_or_checkpoint)
    if beam is not None:
        saved.model.search(beam)
    if out is not None and saved.task not in ("classify", "segment", "detect"):
        raise UsageError(f"--out draws which classes a model confuses, and {saved.path} is to {saved.task}; leave it out")
    if truncation is not None and (classifier is None or saved.task == "translate"):
        raise UsageError("--truncation changes the pictures that --classifier measures; leave it out, or measure a VAE or a GAN")
    cpu.set_up(saved.config.run.threads)
    data = saved.data()
    judge = None if classifier is None else training.SavedModel(classifier)
    result, reports = score(saved.model, data, saved.task, saved.device, saved.config.eval.batch_size, saved.bf16)
    if judge is not None:
        from rlsuite.vision import frechet, translate

        result |= translate.judged(saved, judge) if saved.task == "translate" else frechet.measured(saved, judge, data, truncation)
    training.write_result(saved.path, result)
    written = [] if out is None else report.draw(reports, out)
    if as_json:
        found = {what: one.as_dict() for what, one in reports.items()}
        print_json({"eval": training.plain(result), "reports": found, "pictures": [str(path) for path in written]})
        return
    print(_describe_metrics(result))
    for what, one in reports.items():
        print("\n".join([f"{what}: {_describe_metrics(one.means())}", *(f"  {line}" for line in one.lines())]))
    for path in written:
        print(f"picture {path}")


@app.command(
    epilog=examples(
        "rlsuite vision predict runs/mine photo.jpg --out pictures",
        "rlsuite vision predict runs/mine ALE/Pong-v5 --out pictures --count 20",
        "rlsuite vision predict runs/mine test --out pictures",
        "rlsuite vision predict runs/my-number-words 1204",
    )
)
def predict(
    run_or_checkpoint: RunOrCheckpoint,
    what: Annotated[
        str,
        typer.Argument(
            help="A picture, a folder of pictures, a video, an Atari environment, or test for the test pictures; "
            "for a model whose input is text, a text."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the pictures to.")] = Path("pictures"),
    count: Annotated[int, typer.Option(min=1, help="Pictures to write, at most.")] = 12,
    beam: Beam = None,
    as_json: Json = False,
) -> None:
    """Draw what a saved model finds: boxes, masks, classes. Texts are printed, and drawn together with where the model looked."""
    from rlsuite.vision.predict import show
    from rlsuite.vision.train import SavedModel

    saved = SavedModel(run_or_checkpoint)
    if beam is not None:
        saved.model.search(beam)
    written = show(saved, what, out, count)
    if as_json:
        read = {"texts": [one.text for one in written]} if any(one.text is not None for one in written) else {}
        print_json({"pictures": [str(one.path) for one in written]} | read)
    else:
        print("\n".join(f"picture {one.path}" + (f"  {one.text}" if one.text is not None else "") for one in written))


@app.command(
    epilog=examples(
        "rlsuite vision sample runs/my-vae --out samples",
        "rlsuite vision sample runs/my-gan --out samples --count 25 --seed 3 --truncation 1",
    )
)
def sample(
    run_or_checkpoint: RunOrCheckpoint,
    out: Annotated[Path, typer.Option(help="Folder to write the pictures to.")] = Path("samples"),
    count: Annotated[int, typer.Option(min=1, help="Pictures in the grid.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random codes.")] = 0,
    truncation: Truncation = None,
    as_json: Json = False,
) -> None:
    """Generate pictures: a grid, interpolations, and the same picture as every class.

    Conditional models decode a code as each class; autoencoders move the codes of test pictures to other classes.
    """
    from rlsuite.vision.generation.autoencoders import Autoencoder
    from rlsuite.vision.sample import write_samples
    from rlsuite.vision.train import SavedModel, load_data

    saved = SavedModel(run_or_checkpoint)
    data = load_data(saved.config) if isinstance(saved.model.head, Autoencoder) else None
    written = write_samples(saved.model, out, count, seed, saved.bf16, data, truncation)
    if as_json:
        print_json({"pictures": [str(path) for path in written]})
    else:
        print("\n".join(f"picture {path}" for path in written))


@app.command(
    name="translate",
    epilog=examples(
        "rlsuite vision translate runs/my-stargan test --out pictures",
        "rlsuite vision translate runs/my-cyclegan photo.jpg",
    ),
)
def translate_(
    run_or_checkpoint: RunOrCheckpoint,
    what: Annotated[
        str, typer.Argument(help="A picture, a folder of pictures, a video, an Atari environment, or test for the test pictures.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the pictures to.")] = Path("pictures"),
    count: Annotated[int, typer.Option(min=1, help="Pictures to write, at most.")] = 12,
    as_json: Json = False,
) -> None:
    """Translate pictures into every domain that a model knows; each picture is drawn above its translations."""
    from rlsuite.vision.train import SavedModel
    from rlsuite.vision.translate import show

    written = show(SavedModel(run_or_checkpoint), what, out, count)
    if as_json:
        print_json({"pictures": [str(path) for path in written]})
    else:
        print("\n".join(f"picture {path}" for path in written))


@app.command(
    epilog=examples(
        "rlsuite vision anomalies runs/my-autoencoder test",
        "rlsuite vision anomalies runs/my-vae ALE/Pong-v5 --out strange.png",
    )
)
def anomalies(
    run_or_checkpoint: RunOrCheckpoint,
    what: Annotated[
        str, typer.Argument(help="A picture, a folder of pictures, a video, an Atari environment, or test for the test pictures.")
    ],
    out: Annotated[Path, typer.Option(help="PNG file to write: the strangest pictures above their reconstructions.")] = Path(
        "anomalies.png"
    ),
    count: Annotated[int, typer.Option(min=1, help="Pictures to rank, at most.")] = 10_000,
    top: Annotated[int, typer.Option(min=1, help="Pictures to show.")] = 10,
    score: Annotated[
        str,
        typer.Option(help="squared: mean squared error per pixel; coarse: that of 4x4 means, relative to the picture brightness."),
    ] = "squared",
    as_json: Json = False,
) -> None:
    """Rank pictures by the reconstruction error of an autoencoder.

    If a class was left out of training (data.leave_out), also prints the AUROC of detecting it by the error.
    """
    from rlsuite.vision import anomalies as ranking
    from rlsuite.vision import draw
    from rlsuite.vision.train import SavedModel

    found = ranking.rank(SavedModel(run_or_checkpoint), what, count, score)
    draw.save(ranking.drawn(found, top), out)
    rows = [{"picture": name, "error": float(error)} for name, error in zip(found.names, found.errors, strict=True)]
    if as_json:
        print_json({"ranked": rows, "auroc": found.auroc, "picture": str(out)})
        return
    for row in rows[:top]:
        print(f"{row['picture']:<20} {score} error {row['error']:.5f}")
    if found.auroc is not None:
        print(f"AUROC of the class left out {found.auroc:.3f}")
    print(f"picture {out}")


@app.command(
    epilog=examples(
        "rlsuite vision style ALE/Pong-v5 ALE/Breakout-v5 --weights runs/my-scenes --out style.png",
        "rlsuite vision style photo.jpg painting.jpg --weights vgg16.safetensors --backbone vgg16 --size 224",
        "rlsuite vision style ALE/Pong-v5 painting.jpg --weights runs/my-autoencoder --adain",
    )
)
def style(
    content: Annotated[str, typer.Argument(help="A picture, or an Atari environment.")],
    style: Annotated[str, typer.Argument(help="The picture or environment whose colours and texture to apply.")],
    weights: Annotated[Path, typer.Option(help="A vision run with the backbone to use, or a file from `rlsuite vision import`.")],
    backbone: Annotated[str | None, typer.Option(help="Name of the backbone in that file.")] = None,
    out: Annotated[Path, typer.Option(help="PNG file to write: content, style, and the result.")] = Path("style.png"),
    size: Annotated[int | None, typer.Option(min=16, help="Height and width of the pictures; default: 160.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimisation steps; default: 200.")] = None,
    weight: Annotated[float | None, typer.Option(min=0, help="Weight of the style loss; default: 10.")] = None,
    layer: Annotated[int | None, typer.Option(min=0, help="Feature map for the content loss; default: the middle one.")] = None,
    noise: Annotated[bool, typer.Option("--noise", help="Start from noise instead of the content in the style's colours.")] = False,
    adain: Annotated[
        bool,
        typer.Option("--adain", help="One pass instead: features with the style's statistics, decoded by an autoencoder run."),
    ] = False,
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="With --adain: how far features move to the style's statistics; default: 1.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Transfer the style of one picture to another, with the features of a trained backbone."""
    import numpy as np

    from rlsuite.core.errors import UsageError
    from rlsuite.vision import draw
    from rlsuite.vision import style as styles
    from rlsuite.vision.sample import sheet
    from rlsuite.vision.train import SavedModel

    given = {"backbone": backbone, "size": size, "steps": steps, "weight": weight, "layer": layer, "noise": noise or None}
    useless = [f"--{name}" for name, value in (given if adain else {"share": share}).items() if value is not None]
    if useless:
        raise UsageError(f"{useless[0]} has no effect {'with' if adain else 'without'} --adain; leave it out")
    if adain:
        if weights.suffix == ".safetensors":
            raise UsageError(f"--adain needs the run of an autoencoder: {weights} holds a backbone alone")
        saved = SavedModel(weights)
        kept, aim = (styles.picture_of(what, saved.shape[0], saved.shape[1:]) for what in (content, style))
        found = styles.stylise(saved, kept, aim, 1.0 if share is None else share)
    else:
        net, channels = styles.backbone_of(weights, backbone)
        kept, aim = (styles.picture_of(what, channels, (size or 160, size or 160)) for what in (content, style))
        found = styles.transfer(net, kept, aim, steps or 200, 10.0 if weight is None else weight, layer, noise)
    draw.save(sheet(np.stack([kept, aim, found.picture]), 3), out)
    if as_json:
        print_json({"content": found.content, "style": found.style, "picture": str(out)})
        return
    for name, (before, after) in (("content", found.content), ("style", found.style)):
        print(f"{name} loss {before:.4g} -> {after:.4g}")
    print(f"picture {out}")


@app.command(epilog=examples("rlsuite vision probe runs/atari-pong__seed1__20260101-120000 --out pong-saliency.png"))
def probe(
    run_or_checkpoint: Annotated[Path, typer.Argument(help="A run or checkpoint of an agent that plays an Atari game.")],
    pictures: Annotated[int, typer.Option(min=100, help="Frames from its games: half to fit the probes, half to score.")] = 4000,
    out: Annotated[Path, typer.Option(help="PNG file to write: saliency maps, which show where the torso looks.")] = Path(
        "saliency.png"
    ),
    as_json: Json = False,
    trust: Trust = False,
) -> None:
    """Fit linear probes of game variables to an agent's torso.

    Also probes a torso with random weights for comparison.
    """
    from rlsuite.vision import probe as probes

    saved, found, played = probes.probe(run_or_checkpoint, pictures)
    probes.draw_saliency(saved, played, out)
    if as_json:
        print_json({"probes": [row._asdict() for row in found], "picture": str(out)})
        return
    print(f"{'variable':<16} {'R² trained':>10} {'R² random':>10} {'std':>7}")
    for row in found:
        print(f"{row.variable:<16} {row.trained:>10.3f} {row.random:>10.3f} {row.spread:>7.1f}")
    print(f"picture {out}")


@app.command(
    "import",
    epilog=examples(
        "rlsuite vision import torchvision:resnet18 resnet18.safetensors",
        "rlsuite vision import timm:resnet18 resnet18.safetensors --state-dict model.safetensors",
    ),
)
def import_(
    model: Annotated[
        str, typer.Argument(metavar="LIBRARY:NAME", help="torchvision:NAME or timm:NAME; the library must be installed.")
    ],
    out: Annotated[Path, typer.Argument(help="File to write, for net.weights=FILE or model.weights=FILE.")],
    state_dict: Annotated[
        Path | None,
        typer.Option(help="A safetensors file saved from that library; default: the library's own weights, which it may download."),
    ] = None,
) -> None:
    """Convert torchvision or timm weights for the backbones of rlsuite.

    Tensors are matched in order, one by one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from rlsuite.core.errors import UsageError, one_line
    from rlsuite.nets.pretrained import in_order_of, pretrained

    weights: Any = in_order_of(pretrained(model, state_dict))
    try:
        save_file(weights, out)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"cannot write {out}: {one_line(error)}") from error
    print(f"{len(weights)} tensors of {model} in {out}")
