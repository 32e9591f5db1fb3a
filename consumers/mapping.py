"""Where the tensors of a checkpoint go, as rules: each takes tensors by name and returns tensors by
other names.

A family's rules turn its Hugging Face tensors into the parameters of mlx-lm's model. They are
written from the consumers' documentation of their parameters, and are themselves checked by letting
mlx-lm load the Hugging Face form (test_families.py).
"""

import re
from collections.abc import Callable

import numpy as np
from weights import BF16

Tensors = dict[str, np.ndarray]
Rule = Callable[[Tensors], Tensors]


def apply(rules: list[Rule], tensors: Tensors) -> Tensors:
    for rule in rules:
        tensors = rule(tensors)
    return tensors


def rename(pattern: str, replacement: str) -> Rule:
    return lambda tensors: {re.sub(pattern, replacement, name): tensor for name, tensor in tensors.items()}


def drop(pattern: str) -> Rule:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if not re.search(pattern, name)}


def keep(pattern: str) -> Rule:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if re.search(pattern, name)}


def change(pattern: str, how: Callable[[np.ndarray], np.ndarray]) -> Rule:
    return lambda tensors: {name: how(tensor) if re.search(pattern, name) else tensor for name, tensor in tensors.items()}


def plus_one(pattern: str) -> Rule:
    """Adds one to norms that Hugging Face stores around zero."""
    return change(pattern, lambda tensor: tensor + tensor.dtype.type(1))


def conv1d(pattern: str = r"conv1d\.weight$") -> Rule:
    """[C,1,K] becomes [C,K,1]."""
    return change(pattern, lambda tensor: tensor.swapaxes(1, 2))


def experts_by_number(tensors: Tensors, pattern: str) -> tuple[Tensors, dict[str, dict[str, list[np.ndarray]]]]:
    """The tensors that do not belong to experts, and for each layer and projection its experts in
    order."""
    rest, layers = {}, {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(pattern, name):
            layer, expert, projection = match.groups()
            layers.setdefault(layer, {}).setdefault(projection, {})[int(expert)] = tensor
        else:
            rest[name] = tensor
    return rest, {layer: {projection: [numbered[e] for e in range(len(numbered))] for projection, numbered in projections.items()}
                  for layer, projections in layers.items()}


PER_EXPERT = r"(.+)\.experts\.(\d+)\.(\w+)\.weight"


def switch(names: dict[str, str], pattern: str = PER_EXPERT, to: str = "switch_mlp") -> Rule:
    """One tensor per expert becomes one per projection, [E,O,I]."""
    def rule(tensors: Tensors) -> Tensors:
        tensors, layers = experts_by_number(tensors, pattern)
        for layer, projections in layers.items():
            for projection, experts in projections.items():
                tensors[f"{layer}.{to}.{names[projection]}.weight"] = np.stack(experts)
        return tensors
    return rule


GLU = {name: name for name in ("gate_proj", "up_proj", "down_proj")}


def stacked(transposed: bool = False, pattern: str = PER_EXPERT) -> Rule:
    """One tensor per expert becomes gate_up_proj [E,2I,H], gate first, and down_proj [E,H,I]; or
    the same with the last two axes swapped."""
    def rule(tensors: Tensors) -> Tensors:
        tensors, layers = experts_by_number(tensors, pattern)
        for layer, projections in layers.items():
            pairs = zip(projections["gate_proj"], projections["up_proj"], strict=True)
            both = {"gate_up_proj": np.stack([np.concatenate(pair) for pair in pairs]), "down_proj": np.stack(projections["down_proj"])}
            for name, tensor in both.items():
                tensors[f"{layer}.experts.{name}"] = tensor.swapaxes(1, 2) if transposed else tensor
        return tensors
    return rule


def unstacked(to: str = "switch_mlp", transposed: bool = False) -> Rule:
    """Parameters experts.gate_up_proj and experts.down_proj become one per projection, [E,O,I]."""
    def rule(tensors: Tensors) -> Tensors:
        result = {}
        for name, tensor in tensors.items():
            match = re.fullmatch(r"(.+)\.experts\.(gate_up_proj|down_proj)", name)
            if match and transposed:
                tensor = tensor.swapaxes(1, 2)
            if match and match[2] == "gate_up_proj":
                inner = tensor.shape[1] // 2
                result[f"{match[1]}.{to}.gate_proj.weight"] = tensor[:, :inner]
                result[f"{match[1]}.{to}.up_proj.weight"] = tensor[:, inner:]
            elif match:
                result[f"{match[1]}.{to}.down_proj.weight"] = tensor
            else:
                result[name] = tensor
        return result
    return rule


def absorbed(heads: int, nope: int, value: int) -> Rule:
    """MLA: kv_b_proj [heads*(nope+value), lora] becomes embed_q [heads,lora,nope] and unembed_out
    [heads,value,lora]."""
    def rule(tensors: Tensors) -> Tensors:
        result = {}
        for name, tensor in tensors.items():
            if name.endswith("kv_b_proj.weight"):
                by_head = [tensor[h * (nope + value):(h + 1) * (nope + value)] for h in range(heads)]
                result[name.replace("kv_b_proj", "embed_q")] = np.stack([rows[:nope].T for rows in by_head])
                result[name.replace("kv_b_proj", "unembed_out")] = np.stack([rows[nope:] for rows in by_head])
            else:
                result[name] = tensor
        return result
    return rule


assert BF16(1) + BF16(2**-8) == BF16(1)  # adding one to a norm rounds to bf16, as it does in MLX
