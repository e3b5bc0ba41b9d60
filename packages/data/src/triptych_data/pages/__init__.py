"""What the self-contained pages share: template, style, script and policy in one file that loads no other file."""

from triptych_data.pages.render import fragment, rendered_page, safe_json

__all__ = ["fragment", "rendered_page", "safe_json"]
