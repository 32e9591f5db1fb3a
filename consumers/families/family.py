"""What the tests know about a family."""

from collections.abc import Callable
from dataclasses import dataclass, field

import mapping
from dialects import Dialect
from mapping import Rule
from sources import Source

FORMS = {
    # and dense models, and experts that are published stacked: names and shapes as they are
    "per expert": [],
    "stacked": [mapping.stacked()],
    "stacked, transposed": [mapping.stacked(transposed=True)],
}


@dataclass(frozen=True, eq=False)
class Variant:
    """One checkpoint of a family: its dialect, and settings of the config that differ, by dotted
    path, or the whole config."""

    dialect: Dialect
    settings: dict = field(default_factory=dict)
    note: str = ""  # what else is special about it
    # where tensors have other names than the family's
    build: Callable[[Source, dict], None] | None = None
    whole: bool = False  # settings are the whole config
    options: tuple[str, ...] = ()  # without which metalcast refuses it
    vlm_rejects: tuple[str, ...] = ()  # layouts
    # the model type under which mlx-lm knows the family, if not the release's
    mlx_lm_type: str = ""

    @property
    def label(self) -> str:
        return self.dialect.label + (f", {self.note}" if self.note else "")


@dataclass(frozen=True, eq=False)
class Family:
    name: str
    config: dict
    build: Callable[[Source, dict], None]
    # of a config: from the Hugging Face tensors to mlx-lm's parameters
    rules: Callable[[dict], list[Rule]]
    variants: tuple[Variant, ...]
    form: str = "per expert"  # that --layout auto writes
    mlx: bool = False  # whether --layout mlx exists
    dropped: str = "^$"  # what no runtime reads: multi-token prediction
    vision: list[Rule] | None = None  # from vision tensors to mlx-vlm's parameters
    # if mlx-vlm's text model has different parameters from mlx-lm's
    vlm_rules: Callable[[dict], list[Rule]] | None = None
    vlm_rejects: tuple[str, ...] = ()  # layouts of all its variants that mlx-vlm does not load
