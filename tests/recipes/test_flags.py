"""The command line of a recipe: its flags, its help, and the words that make a recipe again."""

import ast
import inspect
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gsmflow.core.errors import InputError
from gsmflow.core.settings import plain_type
from gsmflow.learning.prototypes import PrototypesConfig
from gsmflow.methods.gates.registry import GATES
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.checks import check_recipe
from gsmflow.recipes.flags import published_recipe, recipe_flags, recipe_for
from gsmflow.recipes.recipe import CLASSIFIERS, Recipe, setting_value, settings_of
from tests.builders import changed, make_recipe
from tests.recipes.parsing import (
    PREFIXES,
    RECIPES,
    RES101,
    VIT,
    configurations,
    flag,
    flat_names,
    parse,
    parse_from,
)


def texts_below_fields(config: type) -> dict[str, str]:
    """The string below each field, read from the source of the class and of its base classes."""
    found: dict[str, str] = {}
    for kind in config.__mro__[-2::-1]:
        body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[field.target.id] = ast.literal_eval(text.value)  # type: ignore[union-attr]
    return found


def without_frames(text: str) -> str:
    """Without what wrapping and framing change."""
    return re.sub(r"[\s│]", "", text)


@pytest.mark.parametrize("model", METHODS)
def test_help_shows_every_setting_with_its_text(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(dataset="CUB", model=model, gate="boundary")
    with pytest.raises(SystemExit) as end:
        parse_from(recipe, "--help-all")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "Train a thing." in shown
    texts = {n: t for n, t in texts_below_fields(Recipe).items() if n not in PREFIXES}
    for part, config in configurations(recipe).items():
        field_texts = texts_below_fields(type(config))
        texts |= {PREFIXES[part] + name: text for name, text in field_texts.items()}
    assert set(texts) == set(flat_names(recipe))
    texts["gate"] = texts_below_fields(Recipe)["gate"]
    for name, text in texts.items():
        assert re.search(rf"{flag(name)}[ ,\n]", shown), name
        assert without_frames(text) in without_frames(shown), name
    assert re.search(r"--model [^ ]*gsmflow,", shown)
    assert ("--classifier " in shown) == ("classifier" in configurations(recipe))
    others = {n for m in METHODS for n in flat_names(make_recipe(dataset="CUB", model=m))}
    for name in others - set(texts):
        assert not re.search(rf"{flag(name)}[ ,\n]", shown), name


def test_help_shows_the_chosen_recipes_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--features", "vit", "--help")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: 22)" in text
    assert "(default: 11)" not in text


def values_of(name: str, hint: Any) -> st.SearchStrategy[Any]:
    """Values within a setting's bounds."""
    kind, bounds = plain_type(hint)
    names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
    if name == "beside":
        return st.lists(st.sampled_from([*METHODS]), unique=True).map(tuple)
    if name == "classifiers_beside":
        return st.lists(st.sampled_from([*CLASSIFIERS]), unique=True).map(tuple)
    if name == "shots":
        return st.sets(st.integers(0, 30), max_size=4).map(sorted).map(tuple)
    if get_origin(kind) is tuple:  # epochs of few-shot learning
        return st.just(()) | st.lists(st.integers(1, 99), min_size=4, max_size=4).map(tuple)
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if bounds is None:
        return {bool: st.booleans(), str: names, Path: names.map(lambda n: Path("some") / n)}[kind]
    low = bounds.min if bounds.above is None else bounds.above
    assert low is not None
    high = low + 1000 if bounds.max is None else bounds.max
    if kind in (int, int | None):
        whole = st.integers(int(low), int(high))
        return whole if kind is int else st.none() | whole
    number = st.floats(low, high, exclude_min=bounds.above is not None)
    return number if kind is float else st.none() | number


@st.composite
def base_and_changes(draw: st.DrawFn) -> tuple[Recipe, Recipe]:
    """A recipe, and one of the same method with some settings and choices changed."""
    model = draw(st.sampled_from([*METHODS]))
    base = make_recipe(dataset="CUB", model=model, second_semantics="sent", features="res101")
    classifier = draw(st.sampled_from([*CLASSIFIERS])) if model == "gsmflow" else "softmax"
    gate = draw(st.sampled_from(["none", *GATES]))
    recipe = changed(base, classifier=classifier, gate=gate)
    known = settings_of(recipe)
    names = draw(st.lists(st.sampled_from([*known]), unique=True, max_size=8))
    values = {n: draw(values_of(n, known[n].hint)) for n in names if n != "recipe"}
    recipe = recipe.replace(**values)
    try:
        check_recipe(recipe)
    except InputError:
        assume(False)
    return base, recipe


@given(base_and_changes())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_flags_of_a_recipe_are_parsed_to_it_again(case: tuple[Recipe, Recipe]) -> None:
    base, recipe = case
    assert parse_from(base, *recipe_flags(recipe, base)) == recipe
    assert recipe_flags(recipe, recipe) == []


def test_settings_that_a_preset_changes_are_flags_beside_it() -> None:
    base = make_recipe(dataset="CUB")
    recipe = base.replace(preset="short", schedule="published")
    flags = recipe_flags(recipe, base)
    assert flags[flags.index("--schedule") :][:2] == ["--schedule", "published"]
    assert parse_from(base, *flags) == recipe


def test_a_recipe_that_changed_settings_of_its_preset_has_no_flags_against_itself() -> None:
    recipe = make_recipe(dataset="CUB", model="cada-vae").replace(preset="short", epochs=300)
    assert recipe_flags(recipe, recipe) == []
    changed_again = recipe.replace(epochs=7)
    assert parse_from(recipe, *recipe_flags(changed_again, recipe)) == changed_again


def other_value(name: str, recipe: Recipe, number: int) -> tuple[list[str], Any]:
    """Words that give a setting another value, which only it has, and that value."""
    kind, bounds = plain_type(settings_of(recipe)[name].hint)
    value = setting_value(recipe, name)
    if kind is bool:
        return [flag(f"no_{name}") if value else flag(name)], not value
    new: Any
    lists: dict[str, tuple[Any, ...]] = {
        "beside": ("discriminant", "gsmflow"),
        "classifiers_beside": ("bayes", "prototypes"),
        "shots": (0, 3, 20),
        "unseen_names": ("blue jay", "class_2"),
    }
    if name in lists:
        new = lists[name]
        return [flag(name), *map(str, new)], new
    if get_origin(kind) is tuple:  # epochs of few-shot learning
        new = (number + 1, 2, 5, 10)
        return [flag(name), *map(str, new)], new
    if get_origin(kind) is Literal:
        new = next(option for option in get_args(kind) if option != value)
    elif kind in (int, int | None):
        new = 100 + number
    elif kind in (str, Path):
        new = kind(f"else-{number}")
    else:  # with digits that must not be cut
        new = 0.1 + 0.2 + number / 1000
        assert bounds is not None
        assert bounds.contains(new)
    return [flag(name), str(new)], new


@pytest.mark.parametrize(
    ("model", "classifier"), [*((name, "softmax") for name in METHODS), ("gsmflow", "prototypes")]
)
def test_every_flag_sets_its_field_and_no_other(
    model: str, classifier: str, monkeypatch: Any
) -> None:
    # Settings that do not go together are checked elsewhere.
    monkeypatch.setattr("gsmflow.recipes.flags.check_recipe", lambda recipe: None)
    recipe = make_recipe(dataset="CUB", model=model, classifier=classifier, gate="boundary")
    names = [name for name in flat_names(recipe) if name != "recipe"]
    words, values = [], {}
    for number, name in enumerate(names):
        flag_words, values[name] = other_value(name, recipe, number)
        assert values[name] != setting_value(recipe, name)
        words += flag_words
    expected = recipe.replace(**values)
    assert parse_from(recipe, *words) == expected
    assert parse_from(recipe, *recipe_flags(expected, recipe)) == expected
    # One at a time, of a few.
    for name in names[::12]:
        flag_words, value = other_value(name, recipe, 0)
        assert parse_from(recipe, *flag_words) == recipe.replace(**{name: value})


@pytest.mark.parametrize("words", [("0",), ("0", "3", "20"), ()])
def test_labelled_rows_are_a_list_of_numbers(words: tuple[str, ...]) -> None:
    recipe = parse("--gate", "none", "--shots", *words)
    assert recipe == replace(RES101, gate=None, shots=tuple(map(int, words)))
    assert parse(*recipe_flags(recipe, RES101)) == recipe


def test_methods_beside_are_a_list_of_names_that_may_be_empty() -> None:
    assert parse("--beside").beside == ()
    assert parse("--beside", "eszsl", "cada-vae").beside == ("eszsl", "cada-vae")
    assert parse().beside == ("eszsl", "gaussian-prototypes")


def test_classifier_and_gate_are_chosen_by_their_names() -> None:
    recipe = parse("--gate", "cosmo", "--classifier", "bayes")
    assert (recipe.gate_name, recipe.classifier_name) == ("cosmo", "bayes")
    # The one that the script has keeps the script's settings.
    changed = RES101.replace(gate_epochs=3, classifier_lr=0.5)
    assert parse_from(changed, "--gate=boundary", "--classifier=softmax") == changed
    assert parse_from(changed, "--gate", "none") == replace(changed, gate=None)


def test_classifier_of_another_kind_has_its_own_settings_and_flags() -> None:
    recipe = parse("--classifier", "prototypes", "--classifier-prior-ratio", "30")
    assert recipe.classifier == PrototypesConfig(prior_ratio=30.0)
    assert parse(*recipe_flags(recipe, RES101)) == recipe
    assert recipe.samples_per_class == 10
    more = parse("--classifier", "prototypes", "--samples-per-class", "300")
    assert more.samples_per_class == RES101.samples_per_class == 300
    assert parse(*recipe_flags(more, RES101)) == more
    assert parse("--model", "cada-vae", "--classifier", "prototypes").samples_per_class is None
    for words in (
        ["--classifier-prior-ratio", "30"],
        ["--classifier", "prototypes", "--classifier-initial-gain", "2"],
    ):
        with pytest.raises(InputError, match=f"^{words[-2]}: found with --classifier"):
            parse(*words)


def test_other_method_has_its_published_settings() -> None:
    for model in METHODS:
        if model != "gsmflow":
            expected = published_recipe(RES101, model)
            assert parse("--model", model) == expected
            assert expected.model == model
            assert replace(expected, gate=None) == replace(
                make_recipe(dataset="CUB", model=model).replace(
                    **expected.method_info.settings_for("CUB", "res101")
                ),
                second_semantics="sent",
            )


def test_other_method_has_its_settings_for_the_features_that_are_asked_for() -> None:
    """Features for which the script has no recipe, but the method has settings."""
    expected = find_method("dem").published["CUB/vgg_fc7"]
    recipe = parse("--model", "dem", "--features", "vgg_fc7")
    assert {name: setting_value(recipe, name) for name in expected} == expected


def test_short_preset_comes_over_the_settings_of_the_script_and_under_flags() -> None:
    assert parse("--preset", "short") == RES101.replace(schedule="fast", preset="short")
    longer = parse("--preset", "short", "--schedule", "published")
    assert longer == replace(RES101, preset="short")
    assert parse("--preset=published") == RES101
    for model in METHODS:
        changes = find_method(model).shortened("CUB", "res101") | {"preset": "short"}
        short = parse("--preset", "short", "--model", model)
        assert short == parse("--model", model).replace(**changes)


def test_recipe_is_chosen_by_features_and_the_first_is_the_default() -> None:
    served = [recipe_for(RECIPES, name) for name in ("res101", "vit", "clip")]
    assert served == [RES101, VIT, RES101]
    assert parse("--features", "clip") == replace(RES101, features="clip")


def test_without_flags_the_first_recipe_is_used() -> None:
    assert parse() == RES101


@pytest.mark.parametrize(
    "words",
    [
        ["--features", "vit"],
        ["--features=vit"],
        ["--seed", "0", "--features", "vit"],
        ["--features", "res101", "--features=vit"],
    ],
)
def test_features_pick_the_recipe(words: list[str]) -> None:
    assert parse(*words) == VIT


def test_flags_override_the_picked_recipe() -> None:
    assert parse("--features=vit", "--epochs", "3") == VIT.replace(epochs=3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--xyzzy", "1"], r"--xyzzy: found no flag .* of those that --help-all lists$"),
        (["--epoch", "1"], r"--epoch: found no flag .*, such as --epochs$"),  # no abbreviations
        (["--learning_rat=1"], r"--learning-rat: found no flag .*, such as --learning-rate$"),
        (["--model", "gsmflo"], r"--model: found gsmflo, expected one of .*, such as gsmflow$"),
        (["--beside", "ezsl"], r"--beside: found 'ezsl', expected some of .*, such as eszsl$"),
    ],
)
def test_misspelt_name_gets_the_nearest_one(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(*words)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--epochs", "three"], "--epochs"),
        (["--epochs", "1.5"], "--epochs"),
        (["--pi", "much"], "--pi"),
        (["--anchors", "none"], "--anchors"),
        (["--seed"], "--seed"),
        (["--features"], "--features"),
        (["--gate", "wall"], "--gate"),
        (["--classifier", "trees"], "--classifier"),
        (["--oracle", "perhaps"], "perhaps"),
        (["stray"], "stray"),
    ],
)
def test_malformed_words_end_the_program(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parse(*words)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert named in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model eszsl --blocks 3", "--blocks: found with --model eszsl, .*, expected --model gs"),
        ("--gamma=1", "--gamma: found with --model gsmflow, .* --model cada-vae or eszsl"),
        ("--model=discriminant --epochs 3", "--epochs: found with --model discriminant"),
        (
            "--model cada-vae --no-perturbation",
            "--no-perturbation: found with --model cada-vae, .*, expected --model gsmflow",
        ),
        (
            "--model eszsl --samples_per_class 3",
            "--samples-per-class: found with --model eszsl, .*gsmflow or gaussian-prototypes",
        ),
        (
            "--model eszsl --epochs 5",
            r"--epochs: found with --model eszsl, .*, expected --model gsmflow or cada-vae or "
            r"cn-zsl or \d+ more$",
        ),
        (
            "--model eszsl --classifier softmax",
            "--classifier: found with --model eszsl, which does not use it, expected --model "
            "gsmflow or cada-vae",
        ),
        (
            "--classifier bayes --classifier-lr 1",
            "--classifier-lr: found with --classifier bayes, which does not use it, expected "
            "--classifier softmax",
        ),
        (
            "--gate none --gate-epochs 40",
            "--gate-epochs: found with --gate none, which does not use it, expected "
            "--gate boundary",
        ),
        ("--gate none --gate_hidden=8", "--gate-hidden: found with --gate none"),
        ("--gate cosmo --gate-latent-dim 8", "--gate-latent-dim: found with --gate cosmo"),
        (
            "--gate none --gate-share 0.9",
            "--gate-share: found with --gate none, .*--gate boundary or likelihood or cosmo",
        ),
    ],
)
def test_flag_of_another_method_gate_or_classifier_is_refused(words: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}") as error:
        parse(*words.split())
    assert "\n" not in str(error.value)


def test_recommended_recipe_is_of_another_method() -> None:
    recipe = parse("--recipe", "recommended")
    assert recipe == replace(published_recipe(RES101, "discriminant"), recipe="recommended")
    assert parse("--recipe=recommended", "--model", "discriminant") == recipe
    with pytest.raises(InputError, match=r"^--model: found gsmflow with --recipe recommended, exp"):
        parse("--recipe=recommended", "--model", "gsmflow")
