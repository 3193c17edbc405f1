import re
from pathlib import Path

import pytest

from gsmflow import cli
from gsmflow.cli.main import VERB_GROUPS, VERBS, find_verb, main


@pytest.mark.parametrize("words", [[], ["bank"], ["check", "--jsn", "a"], ["check", "a", "b"]])
def test_wrong_command_line_ends_with_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for group, verbs in VERB_GROUPS.items():
        below = lines[lines.index(group) + 1 :][: len(verbs)]
        assert [line.split()[0] for line in below] == [*verbs]  # a line for each verb
        assert all(
            line.rstrip().endswith(text) for line, text in zip(below, verbs.values(), strict=True)
        )
        assert max(map(len, below)) <= 80
    assert [*VERB_GROUPS["Start here"]] == ["extract", "train", "predict", "report"]
    modules = {path.stem for path in Path(cli.__path__[0]).glob("*.py")}
    assert {name.replace("-", "_") for name in VERBS} <= modules


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], r"VERB: found trian, expected one of .*, such as train"),
        ([], r"VERB: found none, expected one of extract, train, .*few-shot"),
        (["predict", "a", "b", "--topk=3"], r"--topk: found no flag .*, such as --top-k"),
        (["extract", "--images", "a"], r"--images: found no flag .*--help lists"),
        (["predict", "a", "b", "--no-evalute"], r"--no-evalute: found no flag .*"),
    ],
)
def test_unknown_name_gets_the_nearest_one(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert re.fullmatch(f"error: {message}\n", capsys.readouterr().err)


@pytest.mark.parametrize("flag", ["--help", "--help-all"])
@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_help_text(
    name: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, flag])
    assert ended.value.code == 0
    assert f"gsmflow {name}" in capsys.readouterr().out
    assert find_verb(name).options.__doc__
