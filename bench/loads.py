"""What mlx-lm makes of a checkpoint: "loads", with every parameter there and none left over, or its
error. usage: loads.py DIR"""

import sys
from pathlib import Path

from mlx_lm.utils import load_model

if __name__ == "__main__":
    try:
        load_model(Path(sys.argv[1]), lazy=True, strict=True)
    except Exception as error:  # anything the loader raises
        text = (str(error).splitlines() or [""])[0].split(": \n")[0][:80]
        print(f"no: {type(error).__name__}: {text.rstrip(' :')}")
    else:
        print("loads")
