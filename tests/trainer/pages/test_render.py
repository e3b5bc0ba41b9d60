"""Templates of the pages: every value but JSON, style and script is escaped, and a missing one is an error."""

import re
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import triptych_data
import triptych_trainer
from triptych_data.pages import fragment, rendered_page

TEMPLATES = [
    template
    for package in (triptych_data, triptych_trainer)
    for template in sorted(Path(package.__file__).parent.glob("*/assets/*.html"))
]
UNESCAPED = {"{{ style|safe }}", "{{ script|safe }}", "{{ block|safe }}"}
"""Files of the package, and texts of `safe_json`."""
VALUES = {"facts": [("<b>", "&amp;")], "made": [], "panels": [], "index": {"x": "</script>"}, "title": "<i> & 'it'"}


def test_values_are_escaped_and_json_cannot_end_its_element():
    html = "".join(rendered_page("triptych_data.preview", "preview", blocks=[("<x>", "[1]")], **VALUES))
    assert "<title>&lt;i&gt; &amp; &#39;it&#39; · preview</title>" in html
    assert "<dt>&lt;b&gt;</dt><dd>&amp;amp;</dd>" in html
    assert '<script type="application/json" id="&lt;x&gt;">[1]</script>' in html
    assert '{"x":"\\u003c/script>"}' in html
    figure = fragment("triptych_trainer.evaluation", "table", caption="<b>", heads=[], lines=[], size={})
    assert "<caption>&lt;b&gt;</caption>" in figure
    assert figure.__html__() == figure, "a fragment is not escaped again"


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="'blocks' is undefined"):
        list(rendered_page("triptych_data.preview", "preview", **VALUES))


def test_what_is_long_is_read_piece_by_piece():
    read = []

    def blocks():
        for k in range(3):
            read.append(k)
            yield f"rows-{k}", "[]"

    pieces = rendered_page("triptych_data.preview", "preview", blocks=blocks(), **VALUES)
    seen = [len(read) for piece in pieces if "rows-" in piece]
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: f"{path.parents[1].name}/{path.name}")
def test_nothing_but_style_script_and_json_is_left_unescaped(template):
    source = template.read_text(encoding="utf-8")
    assert set(re.findall(r"\{\{[^}]*safe[^}]*\}\}", source)) <= UNESCAPED
    assert "autoescape" not in source


def test_jinja_is_imported_only_when_a_page_is_written():
    code = "import sys, triptych_data.pages; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
