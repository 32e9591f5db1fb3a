"""The families of the acceptance table: for each its config, its tensors and its mapping to
mlx-lm's parameters."""

from families.family import Family, Variant
from families.deepseek import FAMILIES as DEEPSEEK
from families.glm import FAMILIES as GLM
from families.labs import FAMILIES as LABS
from families.mistral import FAMILIES as MISTRAL
from families.others import FAMILIES as OTHERS
from families.qwen import FAMILIES as QWEN

FAMILIES: dict[str, Family] = {family.name: family for family in [*QWEN, *DEEPSEEK, *GLM, *MISTRAL, *LABS, *OTHERS]}
__all__ = ["FAMILIES", "Family", "Variant"]
