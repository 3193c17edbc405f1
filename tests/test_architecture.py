"""The package's imports: a wing imports only wings below it, and imports have no cycles."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gsmflow"
# Lowest first.
WINGS = (
    *("core", "data", "learning", "evaluation", "methods", "recipes", "estimators"),
    *("reports", "runs", "tuning", "cli"),
)
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports, except for type checking alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gsmflow"):
            base = node.module.removeprefix("gsmflow").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                is_module = (PACKAGE / f"{inner.replace('.', '/')}.py").is_file()
                found.add(inner if is_module else base)
    return found


@pytest.mark.parametrize("path", [*FILES, PACKAGE / "estimators.py"], ids=module_of)
def test_wing_imports_only_wings_below(path: Path) -> None:
    wing = module_of(path).split(".")[0]
    below = WINGS[: WINGS.index(wing) + 1]
    above = {module for module in imports_of(path) if module.split(".")[0] not in below}
    assert not above


def test_application_does_not_import_estimators_and_estimators_know_no_run() -> None:
    for path in FILES:
        assert "estimators" not in imports_of(path), path


def test_imports_have_no_cycles() -> None:
    graph = {module_of(path): imports_of(path) - {module_of(path)} for path in FILES}
    TopologicalSorter(graph).prepare()


def test_contributor_page_names_the_wings_in_order() -> None:
    page = (ROOT / "docs" / "contributing.md").read_text()
    rows = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", page, re.MULTILINE)
    assert tuple(rows) == WINGS
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders == set(WINGS) - {"estimators"}


def test_every_file_has_a_docstring() -> None:
    for path in [*FILES, *PACKAGE.glob("*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_there_are_no_wildcard_imports() -> None:
    for path in [*ROOT.glob("*.py"), *PACKAGE.rglob("*.py"), *ROOT.glob("tests/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert "*" not in {alias.name for alias in node.names}, path
