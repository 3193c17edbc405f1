import pytest

from gsmflow.cli.main import VERBS, find_verb, main


@pytest.mark.parametrize("words", [[], ["bank"], ["check", "--jsn", "a"], ["check", "a", "b"]])
def test_wrong_command_line_ends_with_code_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_a_help_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"gsmflow {name}" in capsys.readouterr().out
    assert find_verb(name).options.__doc__
