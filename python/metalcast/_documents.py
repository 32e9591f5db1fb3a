"""The program's flags and JSON documents: see --help and "go doc". Keys may be missing."""

from typing import Any, Dict, List, Optional, TypedDict, Union

Text = Optional[str]
Flag = Optional[bool]
Size = Union[int, str, None]
Rows = List[Dict[str, Any]]

PlanOptions = TypedDict("PlanOptions", {
    "layout": Text, "dtype": Text, "keep_mtp": Flag, "scales": Text, "trust_scales": Flag, "revision": Text, "max_shard_size": Size, "max_memory": Size,
    "quantize": Flag, "q_mode": Text, "q_bits": Optional[int], "q_group_size": Optional[int], "quant_predicate": Text, "q_profile": Text,
    "q_override": Union[str, List[str], None]}, total=False)

_OwnOptions = TypedDict("_OwnOptions", {
    "device": Text, "nan_policy": Text, "allow_overflow": Flag, "ignore_space": Flag, "restart": Flag, "checkpoint_every": Size, "hashes": Flag,
    "verify": Flag, "dequantize": Flag, "trust_remote_code": Flag}, total=False)


class ConvertOptions(PlanOptions, _OwnOptions, total=False): """Flags of convert."""


class VerifyOptions(PlanOptions, total=False):
    """Flags of verify. Without a conversion's flags it uses the record in metalcast.json."""
    device: Text
    sample: Union[float, str, None]


Plan = TypedDict("Plan", {
    "source": str, "repo": str, "revision": str, "family": str, "family_known": bool, "form": str, "layout": str, "dtype": str, "source_tensors": int,
    "source_bytes": int, "tensors": Rows, "shards": Rows, "dropped": Rows, "scales_used": int, "files": List[str], "disk_bytes": int, "memory_bytes": int,
    "notes": List[str], "mlx_lm_problem": str, "tokenizer": bool, "quantization": Dict[str, Any], "quantizes": bool, "bits_per_weight": float, "least_mac_gb": int}, total=False)

_Outcome = TypedDict("_Outcome", {
    "destination": str, "device": str, "gpu_seconds": float, "bytes_read": int, "bytes_written": int, "seconds": float, "peak_memory_bytes": int,
    "verified": bool, "resumed": bool, "findings": Rows, "nvfp4_groups": int, "nvfp4_zeroed_groups": int, "nvfp4_coarse_groups": int}, total=False)


class Report(Plan, _Outcome, total=False): """What a conversion did."""


Verification = TypedDict("Verification", {
    "source": str, "destination": str, "family": str, "layout": str, "device": str, "sample": float, "tensors": int, "bytes_compared": int, "bytes": int,
    "source_tensors_used": int, "source_scales_used": int, "dropped": Rows, "sha256": Rows, "problems": List[str], "differences": Rows, "cut_off": Rows, "ended_early": bool,
    "seconds": float}, total=False)

Inspection = TypedDict("Inspection", {
    "source": str, "repo": str, "revision": str, "model_type": str, "family": str, "form": str, "shards": int, "tensors": int, "bytes": int, "dtypes": Rows,
    "scales": Rows, "experts": Rows, "expert_layout": str, "runtimes": Rows, "mtp_tensors": int, "vision_tensors": int, "mlx_lm_rejects": int,
    "usable": bool, "why": str, "problem": str, "hint": str, "notes": List[str], "scanned": bool, "findings": Rows}, total=False)
