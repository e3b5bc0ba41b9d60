"""Model family adapters: the few differences between vision-language models that prompt sharing has to know.

`family_of(model)` picks one from the table; `docs/add-a-family.md` shows how to write one.
"""

from triptych_trainer.models.families.by_model_type import (
    FAMILIES,
    UnknownFamilyError,
    family_of,
    register_family,
    selects_keys,
)
from triptych_trainer.models.families.family import Family, ImageAttention, SharingPath
from triptych_trainer.models.families.features import ImageFeatures, ImageInputs, TokenRows
from triptych_trainer.models.families.own import use_own_family

__all__ = [
    "FAMILIES",
    "Family",
    "ImageAttention",
    "ImageFeatures",
    "ImageInputs",
    "SharingPath",
    "TokenRows",
    "UnknownFamilyError",
    "family_of",
    "register_family",
    "selects_keys",
    "use_own_family",
]
