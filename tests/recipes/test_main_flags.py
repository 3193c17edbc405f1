import re

import pytest

from gsmflow.methods.gates.registry import GATES
from gsmflow.methods.registry import METHODS
from gsmflow.recipes.main_flags import main_flags
from gsmflow.recipes.recipe import settings_of
from tests.builders import make_recipe
from tests.recipes.parsing import flag, flat_names, parse_from


def shown_flags(text: str) -> list[str]:
    """The flags that a help text lists, in its order."""
    return re.findall(r"^\W (--[a-z][a-z-]*)", text, re.MULTILINE)


@pytest.mark.parametrize("model", METHODS)
def test_short_help_has_twenty_flags_of_the_method(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(dataset="CUB", model=model)
    with pytest.raises(SystemExit) as ended:
        parse_from(recipe, "--help", "--model", model)
    assert ended.value.code == 0
    shown = shown_flags(capsys.readouterr().out)
    assert len(shown) == len(set(shown)) == 21
    assert shown[-1] == "--help-all"
    own = {flag(name) for name in [*flat_names(recipe), "model", "gate", "classifier"]}
    assert set(shown[:-1]) <= own
    assert {"--model", "--gate", "--features", "--seeds", "--resume"} <= set(shown)
    if recipe.method_info.trains:
        assert {"--epochs", "--learning-rate"} <= set(shown)
    assert ("--preset" in shown) == bool(recipe.method_info.short)


@pytest.mark.parametrize("gate", GATES)
def test_short_help_has_the_settings_of_the_chosen_gate_alone(
    gate: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, gated = make_recipe(dataset="CUB"), make_recipe(dataset="CUB", gate=gate)
    with pytest.raises(SystemExit):
        parse_from(plain, "--help")
    assert "--gate-" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        parse_from(plain, "--gate", gate, "--help")
    shown = {name for name in shown_flags(capsys.readouterr().out) if name.startswith("--gate-")}
    settings = [
        flag(name) for name, setting in settings_of(gated).items() if setting.config == "gate"
    ]
    assert shown
    assert shown <= set(settings)


def test_order_is_that_of_importance() -> None:
    recipe = make_recipe(dataset="CUB", model="gsmflow")
    known = settings_of(recipe).keys() | {"model", "classifier", "gate"}
    names = main_flags(recipe, known)
    assert names[:3] == ["model", "classifier", "gate"]
    assert names.index("epochs") < names.index("hidden") < names.index("out")
    assert main_flags(recipe, known) == names
