"""Loads metalcast's output with transformers: no missing and no unexpected tensor, every parameter
equal to the oracle's.

Run by hand, it needs gigabytes: pip install torch transformers ml_dtypes; then METALCAST=... python
transformers_check.py. Finally it writes transformers.json, which compatibility.py quotes: what
transformers does with every family's output, and with the FP8 checkpoints themselves. --naive
converts with the oracle instead of metalcast.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import oracle
import torch
import transformers
import transformers_rules
from cases import CASES, Case, convert_naively
from checkpoints import write
from oracle import Options
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from weights import F32, ODD, Spec

HERE = Path(__file__).parent
TOOL = os.environ.get("METALCAST", str(HERE.parent / "bin" / "metalcast"))
NAIVE = "--naive" in sys.argv
SPECS = {
    "moe with vision": (Spec(vision=True, scales_apart=True), Options()),
    "moe with vision, partial blocks, mtp kept": (Spec(vision=True, mtp=True, scale=F32, **ODD), Options(keep_mtp=True)),
    "moe with vision, one tensor per expert": (Spec(vision=True), Options(stacked=False)),
    "moe, flat": (Spec(flat=True), Options()),
    "dense with vision": (Spec(moe=False, vision=True, intermediate=256), Options()),
    "dense, flat, partial blocks": (Spec(moe=False, flat=True, **ODD), Options()),
}
PROMPT = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])

KNOWN_ERRORS = {"issues during automatic conversion": "error in its conversion of the weights", "mismatched_sizes": "sizes are not its model's"}


def as_bfloat16(tensor: torch.Tensor | np.ndarray) -> np.ndarray:
    """transformers loads every parameter in the config's type, even those that the checkpoint
    stores in float32."""
    if isinstance(tensor, torch.Tensor):
        tensor = tensor.detach().float().numpy()
    return tensor.astype(np.float32).astype(ml_dtypes.bfloat16)


def load(directory: Path, multimodal: bool):
    auto = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
    model, info = auto.from_pretrained(directory, dtype="auto", output_loading_info=True)
    return model, {key: len(value) for key, value in info.items() if value}


def differences(want: oracle.Tensors, model) -> list[str]:
    loaded = {name: as_bfloat16(value) for name, value in model.state_dict().items()}
    return oracle.tensor_differences({name: as_bfloat16(value) for name, value in want.items()}, loaded)


def check(spec: Spec, options: Options, root: Path) -> str:
    source, output = write(spec, root / "source"), root / "output"
    subprocess.run([TOOL, "convert", source, output, *options.flags()], check=True, stderr=subprocess.DEVNULL)
    model, faults = load(output, not spec.flat)
    assert not faults, faults
    assert differences(oracle.converted(oracle.read_checkpoint(source), Options()), model) == []
    logits = model(input_ids=PROMPT).logits
    assert torch.isfinite(logits).all()
    return f"{type(model).__name__}, {len(model.state_dict())} tensors equal"


def outcome(case: Case, directory: Path) -> str:
    want = transformers_rules.parameters(case)
    if want is None:
        return "not known to it"
    config = case.published.config
    if config.get("text_config", config).get("tie_word_embeddings"):
        want["lm_head.weight"] = next(tensor for name, tensor in want.items() if name.endswith("embed_tokens.weight"))
    try:
        model, faults = load(directory, "text_config" in config)
    except Exception as error:
        return next((f"rejected: {text}" for sign, text in KNOWN_ERRORS.items() if sign in str(error)), f"rejected: {error!r}")
    found = differences(want, model)
    if not found and not faults:
        return f"equal ({len(want)})"
    faults = [f"{count} {key.removesuffix('_keys')}" for key, count in faults.items()]
    wrong = [f"WRONG: {len(found)} of {len(want)} parameters"] if found else [f"equal ({len(want)})"]
    return "loads and is " + ", ".join(wrong + faults)


def converted(case: Case, root: Path) -> Path:
    source, output = case.published.write(root / "source"), root / "output"
    if NAIVE:
        return convert_naively(case, source, output)
    subprocess.run([TOOL, "convert", source, output, *case.options], check=True, stderr=subprocess.DEVNULL)
    return output


def main() -> None:
    results = {"versions": f"transformers {transformers.__version__} and torch {torch.__version__.split('+')[0]}, recorded by hand, with float32 "
                           "tensors compared in bfloat16", "published": {}, "converted": {}}
    for name, (spec, options) in {} if NAIVE else SPECS.items():
        with tempfile.TemporaryDirectory() as root:
            print(f"{name}: {check(spec, options, Path(root))}")
    for case in (case for case in CASES if case.layout == "auto"):
        with tempfile.TemporaryDirectory() as root:
            results["converted"][str(case)] = outcome(case, converted(case, Path(root)))
            print(f"{case}: {results['converted'][str(case)]}")
            if case.published.variant.dialect.config["quant_method"] == "fp8" and case.family.name in transformers_rules.RULES:
                results["published"][str(case.published)] = outcome(case, Path(root) / "source")
                print(f"{case.published}, as published: {results['published'][str(case.published)]}")
    (HERE / "transformers.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, python {platform.python_version()}")
    main()
