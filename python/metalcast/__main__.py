"""python -m metalcast runs the program metalcast."""
import os
import sys

import metalcast

os.execv(metalcast.binary(), [metalcast.binary(), *sys.argv[1:]])
