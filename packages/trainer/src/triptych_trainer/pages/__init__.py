"""What the self-contained pages share: template, style, script and policy in one file that asks for nothing."""

from triptych_trainer.pages.fill import filled_page, safe_json

__all__ = ["filled_page", "safe_json"]
