"""The contributor page's map is the package: every module is on it, and arrows point up."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gsmflow"
PAGE = (ROOT / "docs" / "contributing.md").read_text()
ORDER = re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)


def imports_of(module: str) -> set[str]:
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())
    return {
        node.module.removeprefix("gsmflow.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gsmflow")
    }


def test_the_map_names_every_module() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in files}
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == modules


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_from_above(module: str) -> None:
    assert imports_of(module) <= set(ORDER[: ORDER.index(module)])


def test_there_are_no_wildcard_imports() -> None:
    for path in [*ROOT.glob("*.py"), *PACKAGE.rglob("*.py"), *ROOT.glob("tests/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert "*" not in {alias.name for alias in node.names}, path
