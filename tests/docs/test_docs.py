"""The documentation: links have targets, flags exist, the citation is of this version."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from benchmarks.residuals import Options as ResidualsOptions
from benchmarks.scale import Options as ScaleOptions
from benchmarks.speed.command import BenchOptions
from gsmflow.cli.main import VERBS, find_verb
from gsmflow.methods.gates.registry import GATES
from gsmflow.methods.registry import METHODS
from gsmflow.recipes.recipe import CLASSIFIERS, settings_of
from tests.builders import make_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "data" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
OPTIONS = (
    *(ResidualsOptions, ScaleOptions, BenchOptions),
    *(find_verb(name).options for name in VERBS),
)
RECIPES = (
    *(make_recipe(dataset="TINY", model=model) for model in METHODS),
    *(make_recipe(dataset="TINY", classifier=classifier) for classifier in CLASSIFIERS),
    *(make_recipe(dataset="TINY", gate=gate) for gate in GATES),
)
OURS = {
    *(field.name for options in OPTIONS for field in fields(options)),
    *(name for recipe in RECIPES for name in settings_of(recipe)),
    *("model", "classifier", "gate", "help", "help-all"),
}
# Flags of torchrun and of a browser, in commands that the pages show.
OTHERS = {
    *("nproc-per-node", "nnodes", "rdzv-backend", "rdzv-endpoint"),
    *("headless", "hide-scrollbars", "window-size", "force-dark-mode", "screenshot"),
}


def tokens(page: Path) -> Iterator[Token]:
    """All tokens of a page, those within lines too."""
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def targets(page: Path) -> list[str]:
    """Targets of the links and pictures of a page within the repository."""
    found = [token.attrGet("href") or token.attrGet("src") for token in tokens(page)]
    return [t for t in map(str, filter(None, found)) if not re.match(r"[a-z]+:", t)]


def anchors(page: Path) -> set[str]:
    """The names by which headings can be linked to, as GitHub makes them."""
    every = list(tokens(page))
    headings = [
        every[i + 1].content for i, token in enumerate(every) if token.type == "heading_open"
    ]
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_pictures_exist(page: Path) -> None:
    for target in targets(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(linked), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in targets(ROOT / "README.md")}
    assert set(PAGES) - linked == {ROOT / "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_named_flag_exists(page: Path) -> None:
    known = {name.replace("_", "-") for name in OURS} | OTHERS
    code = [t.content for t in tokens(page) if t.type in ("fence", "code_inline")]
    named = {flag for text in code for flag in re.findall(r"(?<![\w-])--([a-z][\w-]*)", text)}
    assert {flag for flag in named if flag.removeprefix("no-") not in known} == set()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_named_file_of_the_repository_exists(page: Path) -> None:
    code = [t.content for t in tokens(page) if t.type == "code_inline"]
    named = {text for text in code if re.fullmatch(r"(gsmflow|tests|benchmarks)/[\w./]+", text)}
    assert {text for text in named if not (ROOT / text).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_import_in_code_works(page: Path) -> None:
    code = [t.content for t in tokens(page) if t.type == "fence" and t.info == "python"]
    for line in "\n".join(code).splitlines():
        if re.match(r"from (gsmflow|model|util|classifier)\b", line):
            exec(line, {})


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_mathematics_within_lines_survives_markdown(page: Path) -> None:
    for token in tokens(page):
        children = token.children or ()
        # Without emphasis and escapes, which are not shown.
        text = "".join(c.content or "\n" * (c.type == "softbreak") for c in children)
        for span in re.findall(r"\$[^$`]+\$", token.content) if children else ():
            assert span in text


def test_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert citation["cff-version"] == "1.2.0"
    for field in ("version", "license"):
        assert f'\n{field} = "{citation[field]}"\n' in project
    assert citation["authors"]
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= reference.keys()
    assert f"## [{citation['version']}]" in (ROOT / "CHANGELOG.md").read_text()
