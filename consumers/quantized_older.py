"""Whether an older mlx-lm strictly loads what metalcast quantizes. Run by hand, because it needs an
environment of its own:

    .venv/bin/python consumers/quantized_older.py write DIRECTORY     # this environment
    python3 -m venv older && older/bin/pip install mlx-lm==0.31.3 'mlx[cpu]==0.32.4'
    older/bin/python consumers/quantized_older.py load DIRECTORY

docs/quantization.md records the results.
"""

import collections
import os
import subprocess
import sys
from pathlib import Path

CHOICES = {
    "affine 4/64": (), "affine 2/32": ("--q-bits", "2", "--q-group-size", "32"), "affine 3/128": ("--q-bits", "3", "--q-group-size", "128"),
    "affine 5/64": ("--q-bits", "5"), "affine 6/64": ("--q-bits", "6"), "affine 8/32": ("--q-bits", "8", "--q-group-size", "32"),
    "mxfp4": ("--q-mode", "mxfp4"), "mxfp8": ("--q-mode", "mxfp8"), "nvfp4": ("--q-mode", "nvfp4"), "mixed_3_6": ("--quant-predicate", "mixed_3_6"),
    "overrides": ("--q-override", "*_proj=::mxfp8", "--q-override", "*o_proj=6:32:affine", "--q-override", "*embed_tokens=none"),
}


def write(root: Path) -> None:
    from quantized_sources import NAMES, Sample
    tool = os.environ.get("METALCAST", Path(__file__).parent.parent / "bin" / "metalcast")
    for name in NAMES:
        source = Sample(name, "deep").write(root / "sources" / name)
        for label, flags in CHOICES.items():
            target = root / name / label.replace("/", "-")
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([tool, "--quiet", "convert", source, target, "-q", *flags], check=True)


def load(root: Path) -> None:
    import mlx.core as mx
    import mlx_lm
    from mlx_lm.utils import load_model
    mx.set_default_device(mx.cpu)
    outcomes = collections.defaultdict(collections.Counter)
    for config in sorted(root.glob("*/*/config.json")):
        name, label = config.parts[-3:-1]
        if name == "sources":
            continue
        try:
            model, _ = load_model(config.parent, strict=True)
            model.set_dtype(mx.float32)
            finite = mx.isfinite(model(mx.array([[3, 1, 4, 1, 5]]))).all().item()
            outcome = "loads" if finite else "loads, logits are not finite"
        except Exception as error:  # any error is the outcome
            outcome = f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
        outcomes[name][outcome] += 1
        if not outcome == "loads":
            print(f"{name}, {label}: {outcome}")
    print(f"mlx-lm {mlx_lm.__version__}, mlx {mx.__version__}")
    for name, counts in outcomes.items():
        print(f"{name}: {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}")


if __name__ == "__main__":
    {"write": write, "load": load}[sys.argv[1]](Path(sys.argv[2]).absolute())
