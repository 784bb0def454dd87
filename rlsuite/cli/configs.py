"""`rlsuite list` and `rlsuite config`: what can be trained, and with which settings. Heavy imports are inside the commands."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from rlsuite.cli.common import Json, examples, family, print_json
from rlsuite.config import shipped
from rlsuite.core import registry
from rlsuite.core.errors import unknown
from rlsuite.runs import pretrained_agents

NAMES: dict[str, Callable[[], list[str]]] = {
    "agents": registry.agents.names,
    "envs": registry.envs.names,
    "games": registry.games.names,
}

app = family()


@app.command("list", epilog=examples("rlsuite list configs", "rlsuite list envs --json"))
def list_(
    kind: Annotated[str, typer.Argument(help="What to list: agents, configs, envs, games, nets or pretrained.")],
    as_json: Json = False,
) -> None:
    """List agents, configs, environments, games, nets or pretrained agents.

    Configs are listed with task, cost and expected score. Nets are backbones with size and cost, other torsos, and memory cores.
    """
    found: list[Any]
    more: dict[str, list[str]] = {}
    if kind == "configs":
        configs = [shipped.shipped(name) for name in shipped.config_names()]
        found, text = [one.as_dict() for one in configs], shipped.table(configs)
    elif kind == "nets":
        from rlsuite.nets import catalogue
        from rlsuite.nets.torso import torso_names

        backbones = catalogue.known()
        found = [facts._asdict() for facts in backbones]
        others = sorted({*torso_names()} - {facts.name for facts in backbones})
        more = {"torsos": others, "memory_cores": registry.memory_cores.names()}
        lists = {"Backbones (net.torso)": [catalogue.table()], "Other torsos (net.torso)": others}
        lists["Memory cores (net.memory)"] = [catalogue.core_table()]
        text = "\n\n".join("\n".join([f"{heading}:", *lines]) for heading, lines in lists.items())
    elif kind == "pretrained":
        cards = [pretrained_agents.card(name) for name in pretrained_agents.names()]
        found, text = [one._asdict() for one in cards], pretrained_agents.table(cards)
    elif kind in NAMES:
        found = NAMES[kind]()
        text = "\n".join(found)
    else:
        raise unknown("list", kind, [*NAMES, "configs", "nets", "pretrained"])
    if as_json:
        print_json({kind: found, **more})
    else:
        print(text)


@app.command(
    epilog=examples(
        "rlsuite config atari/pong",
        "rlsuite config atari/pong learner.batch_size=128 > my.yaml     # then: rlsuite train my.yaml",
        "rlsuite config vision/digits --json",
    )
)
def config(
    name: Annotated[str, typer.Argument(metavar="CONFIG", help="A shipped config (rlsuite list configs) or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides of its keys.")] = None,
    as_json: Json = False,
) -> None:
    """Print every setting of a config with an explanation.

    A comment after each key gives its meaning, default and allowed values. The output is itself a valid config.
    """
    from rlsuite.config import describe

    resolved = _resolve(name, overrides or [])
    if as_json:
        print_json(describe.as_dict(resolved))
    else:
        print(describe.as_yaml(resolved), end="")


def _resolve(name: str, overrides: list[str]) -> Any:
    """The config of an agent or of a vision model."""
    from rlsuite.config import loader
    from rlsuite.runs import run_folder

    run_folder.admit_config(name, overrides)
    data = loader.mapping(name, overrides)
    if "data" in data and "agent" not in data:
        from rlsuite.vision.config import load_config

        return load_config(name, overrides)
    return loader.resolve(name, overrides)
