"""The documents as a site: every page is in the navigation, no link is dead, and a page loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import rlsuite

ROOT = Path(rlsuite.__file__).resolve().parents[1]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "WARNING -" not in done.stderr
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    pages = {page.with_name("index.html") if page.name == "README.html" else page for page in pages}
    assert all((site / page).exists() for page in pages)
    for page in site.rglob("*.html"):
        assert not re.search(r"<(?:script|img)[^>]+src=\"?https?:|<link[^>]+stylesheet[^>]+https?:", page.read_text()), page
    reference = (site / "reference.html").read_text()
    for name in ("rlsuite.api.train", "rlsuite.core.agent.Actor.act", "rlsuite.core.game.Game.new_state"):
        assert f'id="{name}"' in reference
