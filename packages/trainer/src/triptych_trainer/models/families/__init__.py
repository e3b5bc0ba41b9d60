"""Model family adapters: the few differences between vision-language models that prompt sharing has to know.

`family_of(model)` picks one from the table; `docs/add-a-family.md` shows how to write one.
"""

from triptych_trainer.models.families.family import Family, SharingPath
from triptych_trainer.models.families.features import ImageFeatures, ImageInputs
from triptych_trainer.models.families.table import FAMILIES, UnknownFamilyError, family_of

__all__ = [
    "FAMILIES",
    "Family",
    "ImageFeatures",
    "ImageInputs",
    "SharingPath",
    "UnknownFamilyError",
    "family_of",
]
