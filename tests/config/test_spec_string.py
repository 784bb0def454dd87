"""Names with parameters."""

import pytest

from rlsuite.config.spec_string import check_keywords, parse_call, write_call
from rlsuite.core.errors import UsageError
from rlsuite.nets.backbones import make_backbone


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("go", "go", {}),
        (" go ( ) ", "go", {}),
        ("adam(amsgrad=true)", "adam", {"amsgrad": True}),
        ("go(size=9, komi=7.5)", "go", {"size": 9, "komi": 7.5}),
        ("my_net.py:Torso", "my_net.py:Torso", {}),
        ("/a b/my-net.py:Core(width=3)", "/a b/my-net.py:Core", {"width": 3}),
        ("gtp(command=my.py:f)", "gtp", {"command": "my.py:f"}),
        ("gtp(command=gnugo --mode gtp)", "gtp", {"command": "gnugo --mode gtp"}),
    ],
)
def test_what_is_written(text: str, name: str, parameters: dict[str, object]) -> None:
    assert parse_call("game", text) == (name, parameters)


@pytest.mark.parametrize(
    ("text", "complaint"), [("go size", "names no game"), ("", "names no game"), ("go(9)", "'9' must read key=value")]
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_call("game", text)


def test_unknown_keywords_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown parameter of it 'sze'; did you mean size"):
        check_keywords("it", lambda game, size=3: None, {"sze": 1}, skip=1)
    with pytest.raises(UsageError, match="unknown parameter of it 'game'"):
        check_keywords("it", lambda game, size=3: None, {"game": 1}, skip=1)


def test_backbones_take_parameters() -> None:
    assert make_backbone("tower(width=8,depth=2)", 3).channels == (8, 8, 8)
    with pytest.raises(UsageError, match="did you mean tower"):
        make_backbone("towr", 3)
    with pytest.raises(UsageError, match="unknown parameter of tower 'wdth'; did you mean width"):
        make_backbone("tower(wdth=8)", 3)
    with pytest.raises(UsageError, match="a whole number above 0"):
        make_backbone("tower(width=0)", 3)


def test_quotes_keep_commas_and_parentheses() -> None:
    assert parse_call("opponent", 'gtp(command="engine --sizes 7,9 --name (x", level=3)') == (
        "gtp",
        {"command": "engine --sizes 7,9 --name (x", "level": 3},
    )
    assert parse_call("opponent", "gtp(command='sh -c \"a, b\"')") == ("gtp", {"command": 'sh -c "a, b"'})
    assert parse_call("opponent", "gtp(command=it's plain)") == ("gtp", {"command": "it's plain"})


@pytest.mark.parametrize(
    "text",
    [
        "random",
        "sgd(nesterov=false)",
        "mcts(simulations=5,c=1.5)",
        "gtp(command=\"engine --options 'a,b'\")",
        'uci(command="a (b)",go=depth 1)',
    ],
)
def test_what_is_written_is_read_back(text: str) -> None:
    kind, parameters = parse_call("opponent", text)
    assert parse_call("opponent", write_call(kind, parameters)) == (kind, parameters)
