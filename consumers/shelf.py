"""Sources, outputs and their outcomes, each made once and cached."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import outcomes
from cases import Case, Published, convert_naively


class Tool(Protocol):
    def run(self, *arguments: object) -> object:
        """Runs metalcast, and raises if it fails."""


@dataclass
class Shelf:
    """Its directories must not be written to."""

    tool: Tool
    root: Path
    kept: dict = field(default_factory=dict)

    def once(self, key: object, make: Callable[[], object]) -> object:
        """What make returned, or raised, on the first call with this key."""
        if key not in self.kept:
            try:
                self.kept[key] = make(), None
            except Exception as error:
                self.kept[key] = None, error
        result, error = self.kept[key]
        if error is not None:
            raise error
        return result

    def directory(self) -> Path:
        return self.root / f"{len(self.kept)}"

    def source(self, published: Published) -> Path:
        return self.once(("source", published), lambda: published.write(self.directory()))

    def naive(self, case: Case) -> Path:
        source = self.source(case.published)
        return self.once(("naive", case), lambda: convert_naively(case, source, self.directory()))

    def converted(self, case: Case) -> Path:
        return self.conversion(case)[0]

    def conversion(self, case: Case) -> tuple[Path, object]:
        """The output, and the run that made it."""
        source, target = self.source(case.published), self.directory()
        return self.once(("converted", case), lambda: (target, self.tool.run("convert", source, target, *case.options)))

    def output(self, case: Case) -> list[str]:
        """How metalcast's output differs from what the case expects; the next two do the same for
        what a consumer has loaded."""
        source, directory = self.source(case.published), self.converted(case)
        return self.once(("output", case), lambda: outcomes.output_differences(case, source, directory))

    def mlx_lm(self, case: Case) -> list[str]:
        directory = self.converted(case)
        return self.once(("mlx-lm", case), lambda: outcomes.mlx_lm_differences(case, directory))

    def mlx_vlm(self, case: Case) -> list[str]:
        directory = self.converted(case)
        return self.once(("mlx-vlm", case), lambda: outcomes.mlx_vlm_differences(case, directory))

    def raw(self, published: Published) -> str:
        source = self.source(published)
        return self.once(("raw", published), lambda: outcomes.raw_outcome(published, source))
