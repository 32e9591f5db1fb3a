"""The commands that ./build.sh demo suggests are run, as a reader would, and so are those that they
suggest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import mlx.core as mx

ROOT = Path(__file__).parent.parent


def next_commands(text: str) -> list[str]:
    lines = [line.removeprefix("metalcast: ") for line in text.splitlines()]
    return [line.strip() for line in lines if re.match(r"  (metalcast|mlx_lm\.)", line)]


def test_demo_ends_with_commands_that_work():
    def run(command: str) -> str:
        path = f"{ROOT / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(["bash", "-c", command], cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    demo = run("./build.sh demo")
    generate, quantize = next_commands(demo)
    model = generate.split()[2]
    assert generate.startswith("mlx_lm.generate --model bin/demo/") and (ROOT / model / "config.json").exists()
    assert f'export PATH="{ROOT}/bin:$PATH"' in demo
    commands = [generate, *next_commands(run(quantize))]
    for command in commands:
        if mx.metal.is_available():
            run(command + " --max-tokens 2")
        # MLX's CPU backend multiplies experts in float32 only, so the model is loaded, strictly,
        # and not run
        else:
            run(f"{sys.executable} -c 'import mlx_lm; mlx_lm.load(\"{command.split()[2]}\")'")
