"""What the self-contained pages share: template, style, script and policy in one file that loads no other file."""

from triptych_trainer.pages.fill import filled_page, safe_json, terms_html

__all__ = ["filled_page", "safe_json", "terms_html"]
