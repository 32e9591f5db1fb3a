"""metalcast's output equals the oracle's, bit for bit, for every kind of source and options."""

import filecmp
from dataclasses import replace

import oracle
import pytest
from checkpoints import write
from oracle import Options
from weights import F32, ODD, Spec

EVERYTHING = Spec(mtp=True, vision=True, activation_scales=True, scales_apart=True, seed=5)

CASES = {
    "moe": (Spec(), Options()),
    "moe, F32 scales": (Spec(scale=F32, seed=1), Options()),
    "moe, partial blocks": (Spec(**ODD, seed=2), Options()),
    "moe, partial blocks, F32 scales in another shard": (Spec(**ODD, scale=F32, scales_apart=True, seed=3), Options()),
    "moe, blocks larger than a matrix": (Spec(hidden=64, intermediate=24, shared=16, experts=11, seed=4), Options()),
    "moe, mtp dropped, vision kept, activation scales": (EVERYTHING, Options()),
    "moe, mtp kept": (EVERYTHING, Options(keep_mtp=True)),
    "moe, mtp kept per expert": (replace(EVERYTHING, **ODD), Options(keep_mtp=True, stacked=False)),
    "moe, per expert": (Spec(**ODD, scale=F32, seed=6), Options(stacked=False)),
    "moe, flat": (Spec(flat=True, scale=F32, seed=7), Options()),
    "moe, flat, partial blocks, mtp kept": (Spec(flat=True, mtp=True, **ODD, seed=8), Options(keep_mtp=True)),
    "moe, no FP8": (Spec(fp8=False, mtp=True, vision=True, seed=9), Options()),
    "moe, no FP8, flat, two shards": (Spec(fp8=False, flat=True, scales_apart=True, **ODD, seed=10), Options()),
    "moe, no FP8, to float16": (Spec(fp8=False, seed=11), Options(dtype="float16")),
    "moe, to float16": (Spec(**ODD, scale=F32, vision=True, seed=12), Options(dtype="float16")),
    "moe, to float32": (replace(EVERYTHING, seed=13), Options(dtype="float32", keep_mtp=True)),
    "moe, to float32 per expert": (Spec(**ODD, seed=14), Options(dtype="float32", stacked=False)),
    "moe, all to bfloat16": (Spec(seed=15), Options(dtype="bfloat16")),
    "dense": (Spec(moe=False, intermediate=256, seed=16), Options()),
    "dense, partial blocks, F32 scales": (Spec(moe=False, **ODD, scale=F32, seed=17), Options()),
    "dense, mtp kept, vision": (replace(EVERYTHING, moe=False, intermediate=384, seed=18), Options(keep_mtp=True)),
    "dense, flat, to float16": (Spec(moe=False, flat=True, **ODD, seed=19), Options(dtype="float16")),
}


@pytest.mark.parametrize("case", CASES)
def test_output_is_the_oracles(bench, case):
    spec, options = CASES[case]
    assert oracle.differences(bench.source(spec), bench.converted(spec, options), options) == []


def test_many_small_shards_hold_the_same_tensors(bench, tmp_path):
    source = bench.source(Spec(scales_apart=True))
    bench.tool.run("convert", source, tmp_path / "out", "--max-shard-size", "1MiB")
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 3
    assert oracle.differences(source, tmp_path / "out") == []


def test_memory_limit_changes_no_byte(bench, tmp_path):
    source, usual = bench.source(EVERYTHING), bench.converted(EVERYTHING, Options())
    # windows of a few dozen KiB
    bench.tool.run("convert", source, tmp_path / "out", "--max-memory", "30MiB")
    names = sorted(p.name for p in usual.iterdir())
    assert names == sorted(p.name for p in (tmp_path / "out").iterdir())
    assert filecmp.cmpfiles(usual, tmp_path / "out", names, shallow=False)[0] == names


def test_source_is_left_alone(bench, tmp_path):
    source = bench.source(EVERYTHING)
    bench.converted(EVERYTHING, Options())
    fresh = write(EVERYTHING, tmp_path / "fresh")
    names = sorted(p.name for p in fresh.iterdir())
    assert names == sorted(p.name for p in source.iterdir())
    assert filecmp.cmpfiles(source, fresh, names, shallow=False)[0] == names


@pytest.mark.parametrize("of", ["the oracle's output", "its own output"])
def test_nothing_to_convert_in_a_checkpoint_that_loads(bench, tmp_path, of):
    spec = Spec(seed=20)
    if of == "its own output":
        usable = bench.converted(spec, Options())
    else:
        usable = oracle.convert(bench.source(spec), tmp_path / "usable")
    done = bench.tool.run("convert", usable, tmp_path / "out", status=8)
    assert done.stdout.strip() == str(usable)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()
