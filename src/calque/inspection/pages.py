"""Pages that need nothing but themselves: what was seen, and the style and scripts that draw it."""

import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

ASSETS = files("calque.inspection") / "page"
SCRIPTS = (
    "dom.js",
    "colour.js",
    "heatmap.js",
    "lines.js",
    "chart.js",
    "sentence.js",
    "attention.js",
    "heads.js",
    "beam.js",
    "positions.js",
    "embeddings.js",
    "training.js",
    "report.js",
)
"""In the order of their imports."""
IMPORT = re.compile(r'^import {(.*)} from (".*");$', re.MULTILINE)
EXPORT = re.compile(r"^export (function|const) (\w+)", re.MULTILINE)
TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body class="calque-page">
<main id="report"></main>
<noscript>This page is drawn by the scripts that it brings along; they are switched off.</noscript>
<script type="application/json" id="seen">{seen}</script>
<script type="module">
{script}
const seen = JSON.parse(document.getElementById("seen").textContent);
modules["./report.js"].report(seen, document.getElementById("report"));
</script>
</body>
</html>
"""


def page(report: Mapping[str, Any], title: str = "") -> str:
    """An HTML file that draws a report; see docs/looking-inside.md for what a report holds."""
    source = report.get("source", {}).get("text")
    # So written, no text can end the element that it stands in.
    seen = json.dumps(report, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return TEMPLATE.format(
        title=html.escape(title or source or "calque"),
        style=(ASSETS / "look.css").read_text("utf-8"),
        script=script(),
        seen=seen.replace("<", "\\u003c"),
    )


def script() -> str:
    """The modules in one, each in a scope of its own: a file that is opened may import no other."""
    return "\n".join(["const modules = {};", *map(_scoped, SCRIPTS)])


def _scoped(name: str) -> str:
    source = (ASSETS / name).read_text("utf-8")
    exported = ", ".join(name for _, name in EXPORT.findall(source))
    body = IMPORT.sub(r"const {\1} = modules[\2];", source)
    body = EXPORT.sub(r"\1 \2", body)
    return f'modules["./{name}"] = (() => {{\n{body}return {{ {exported} }};\n}})();'


def framed(page: str) -> str:
    """A page as an element of another, such as a notebook."""
    return (
        f'<iframe srcdoc="{html.escape(page)}" title="calque look" '
        'style="width: 100%; height: 720px; border: 0; border-radius: 8px"></iframe>'
    )
