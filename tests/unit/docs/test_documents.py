"""The documents: links lead somewhere, what they name exists, and the front page leads to each of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.cli.app import COMMANDS
from gateway.config import Layer
from gateway.settings import Settings, load

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = "tests|loadtests|gateway|engine_adapter|cache|kernels|web|deploy|docs"
EXAMPLES = {"deploy/fleet/two.json"}
"""Files that a document tells its reader to make."""

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=[str(d.relative_to(ROOT)) for d in DOCUMENTS])


def links(document: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    return [link for link in found if not link.startswith(("http:", "https:", "mailto:"))]


def headings(document: Path) -> set[str]:
    """As GitHub names them in links."""
    lines = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in lines}


@documents
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in headings(target), f"{link}: no such heading"


@documents
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    for name in re.findall(rf"(?<![\w/.])((?:{ROOMS})/[\w./\-]*\w)(?!\*)", text):
        if name not in EXAMPLES:
            assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), f"there is no {name}"
    for module in re.findall(r"python -m (loadtests[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"there is no {module}"


@documents
def test_commands_that_are_named_exist(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z][\w-]*)", text)) <= targets
    assert set(re.findall(r"`sluice ([a-z][\w-]*)", text)) <= COMMANDS.keys()


def settings_shown(document: Path) -> list[str]:
    """Blocks of YAML that begin with a section of the settings, fenced or indented."""
    text = document.read_text()
    indented = (
        re.sub(r"^    ", "", block, flags=re.M) for block in re.findall(r"((?:^    .*\n)+)", text, re.M)
    )
    blocks = [*re.findall(r"^```ya?ml\n(.*?)^```", text, re.M | re.S), *indented]
    return [block for block in blocks if block.partition(":")[0] in Settings.model_fields]


@documents
def test_settings_that_are_shown_can_be_used(document: Path, tmp_path: Path) -> None:
    for number, block in enumerate(settings_shown(document)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        assert load(file, {}, Layer()), block


def test_settings_are_found_in_documents() -> None:
    assert sum(len(settings_shown(document)) for document in DOCUMENTS) >= 4


def test_the_front_page_leads_to_every_document() -> None:
    readme = ROOT / "README.md"
    linked = {(readme.parent / link.partition("#")[0]).resolve() for link in links(readme)}
    assert set((ROOT / "docs").glob("*.md")) <= linked


def sources(*rooms: str) -> str:
    return "".join(file.read_text() for room in rooms for file in sorted((ROOT / room).rglob("*.py")))


def test_every_header_is_documented() -> None:
    names = set(
        re.findall(r"[\"\s](x-(?:sluice|session)-[a-z-]+)", sources("gateway", "engine_adapter/vllm"))
    )
    names -= {"x-sluice-forwarded"}  # between processes of one gateway
    text = (ROOT / "docs" / "requests.md").read_text()
    timeouts = {name for name in names if name.startswith("x-sluice-timeout-")}
    assert len(timeouts) == 4
    assert {name for name in names - timeouts if f"`{name}`" not in text} == set()
    assert "`x-sluice-timeout-connect`, `-queue`, `-first-byte`, `-silence`" in text


def test_every_error_code_of_an_inference_request_is_documented() -> None:
    text = sources("gateway/relay", "gateway/access") + (ROOT / "gateway" / "errors.py").read_text()
    codes = set(re.findall(r"code=\"(\w+)\"", text)) | set(
        re.findall(r"code = \d+, \"\w+\", \"(\w+)\"", text)
    )
    assert len(codes) > 15
    documented = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "requests.md").read_text()))
    assert codes <= documented
