"""Loads metalcast's output with transformers: no missing and no unexpected tensor, every parameter equal to the oracle's.

Run by hand, it needs gigabytes: pip install torch transformers ml_dtypes; then METALCAST=... python transformers_check.py
"""

import os
import platform
import subprocess
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import oracle
import torch
import transformers
from checkpoints import write
from oracle import Options
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from weights import F32, ODD, Spec

TOOL = os.environ.get("METALCAST", str(Path(__file__).parent.parent / "bin" / "metalcast"))
CASES = {
    "moe with vision": (Spec(vision=True, scales_apart=True), Options()),
    "moe with vision, partial blocks, mtp kept": (Spec(vision=True, mtp=True, scale=F32, **ODD), Options(keep_mtp=True)),
    "moe with vision, one tensor per expert": (Spec(vision=True), Options(stacked=False)),
    "moe, flat": (Spec(flat=True), Options()),
    "dense with vision": (Spec(moe=False, vision=True, intermediate=256), Options()),
    "dense, flat, partial blocks": (Spec(moe=False, flat=True, **ODD), Options()),
}
PROMPT = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def as_bfloat16(tensor: torch.Tensor | np.ndarray) -> np.ndarray:
    """transformers loads every parameter in the config's type, also those that the checkpoint holds in float32."""
    if isinstance(tensor, torch.Tensor):
        tensor = tensor.detach().float().numpy()
    return tensor.astype(np.float32).astype(ml_dtypes.bfloat16)


def check(spec: Spec, options: Options, root: Path) -> str:
    source, output = write(spec, root / "source"), root / "output"
    subprocess.run([TOOL, "convert", source, output, *options.flags()], check=True, stderr=subprocess.DEVNULL)
    auto = AutoModelForCausalLM if spec.flat else AutoModelForImageTextToText
    model, info = auto.from_pretrained(output, dtype="auto", output_loading_info=True)
    faults = {key: value for key, value in info.items() if value}
    assert not faults, faults
    loaded = {name: as_bfloat16(value) for name, value in model.state_dict().items()}
    want = oracle.converted(oracle.read_checkpoint(source), Options())
    want = {name: as_bfloat16(value) for name, value in want.items()}
    assert oracle.tensor_differences(want, loaded) == []
    logits = model(input_ids=PROMPT).logits
    assert torch.isfinite(logits).all()
    return f"{type(model).__name__}, {len(loaded)} tensors equal"


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, python {platform.python_version()}")
    for name, (spec, options) in CASES.items():
        with tempfile.TemporaryDirectory() as root:
            print(f"{name}: {check(spec, options, Path(root))}")
