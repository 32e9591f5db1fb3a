"""The cases of the acceptance table (a family, a variant, which is its dialect, and a layout) and
what is expected of each."""

import copy
import functools
import json
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import mapping
import oracle
from families import FAMILIES, Family, Variant
from families.family import FORMS
from sources import Source, Tensors, write


@dataclass(frozen=True)
class Published:
    """A checkpoint as its lab publishes it."""

    family: Family
    variant: Variant

    def __str__(self) -> str:
        return f"{self.family.name}, {self.variant.label}"

    @property
    def config(self) -> dict:
        """Without the quantization settings."""
        if self.variant.whole:
            return copy.deepcopy(self.variant.settings)
        config = copy.deepcopy(self.family.config)
        for path, value in self.variant.settings.items():
            *outer, last = path.split(".")
            place = config
            for key in outer:
                place = place[key]
            place[last] = value
        return config

    @functools.lru_cache(maxsize=8)
    def build(self) -> Source:
        source = Source(self.variant.dialect, seed=zlib.crc32(str(self).encode()))
        (self.variant.build or self.family.build)(source, self.config)
        return source

    def write(self, directory: Path) -> Path:
        config, dialect = self.config, self.variant.dialect
        config["quantization_config"] = dialect.config
        if "text_config" in config:
            # as some releases repeat it
            config["text_config"]["quantization_config"] = dialect.config
        return write(self.build().published, config, dict(dialect.files), directory)

    def values(self) -> Tensors:
        """Its values, under its own names, without what is dropped."""
        return mapping.drop(self.family.dropped)(self.build().values)

    def parameters(self) -> Tensors:
        """The parameters of mlx-lm's model."""
        return mapping.apply(self.family.rules(self.config), self.values())

    def vlm_parameters(self, vision: bool) -> Tensors:
        """The parameters of mlx-vlm's model, which nests some text models in a language_model;
        without that prefix."""
        rules = self.family.vlm_rules or self.family.rules
        parameters = mapping.apply(rules(self.config), self.values())
        if vision and self.family.vision is not None:
            parameters |= mapping.apply([mapping.keep(r"vision|visual|multi_modal"), *self.family.vision], self.values())
        return without_prefix(parameters)


without_prefix = mapping.rename(r"^language_model\.", "")


@dataclass(frozen=True)
class Case:
    published: Published
    layout: str  # auto or mlx

    def __str__(self) -> str:
        return f"{self.published}, {self.layout}"

    @property
    def family(self) -> Family:
        return self.published.family

    @property
    def known_to_mlx_lm(self) -> bool:
        return not self.published.variant.mlx_lm_type or self.layout == "mlx"

    @property
    def rejected_by_mlx_vlm(self) -> bool:
        return self.layout in self.family.vlm_rejects + self.published.variant.vlm_rejects

    @property
    def model_type(self) -> str | None:
        """What the output's config says, if it differs from the source's."""
        return self.published.variant.mlx_lm_type or None if self.layout == "mlx" else None

    @property
    def options(self) -> tuple[str, ...]:
        return "--layout", self.layout, *self.published.variant.options

    def expected_config(self, source: Path) -> dict:
        config = oracle.converted_config(json.loads((source / "config.json").read_text()), model_type=self.model_type)
        return saved_by_mlx_lm(config, source) if self.layout == "mlx" else config

    def expected(self) -> Tensors:
        """The tensors that metalcast must write."""
        if self.layout == "mlx":
            return self.published.parameters()
        return mapping.apply(FORMS[self.family.form], self.published.values())


def saved_by_mlx_lm(config: dict, source: Path) -> dict:
    """What mlx_lm.convert writes as the config of such a checkpoint."""
    from mlx_lm.utils import load_config, save_config  # absent if transformers is installed
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shutil.copy(source / "generation_config.json", directory)
        (directory / "config.json").write_text(json.dumps(config))
        save_config(load_config(directory), directory / "config.json")
        return json.loads((directory / "config.json").read_text())


SOURCES = [Published(family, variant) for family in FAMILIES.values() for variant in family.variants]
CASES = [Case(source, layout) for source in SOURCES for layout in ("auto", "mlx") if layout == "auto" or source.family.mlx]


def convert_naively(case: Case, source: Path, directory: Path, tensors: Tensors | None = None) -> Path:
    """What metalcast must do, done by the oracle and the rules; or with other tensors, to check
    that they are detected."""
    tensors = case.expected() if tensors is None else tensors
    tensors = {name: tensor.copy() for name, tensor in tensors.items()}  # in C order
    return oracle.write_checkpoint(tensors, case.expected_config(source), source, directory, "mlx" if case.layout == "mlx" else "pt")
