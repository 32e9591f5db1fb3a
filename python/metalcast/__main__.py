"""python -m metalcast runs the program metalcast."""
import os
import sys

import metalcast

os.execvp(metalcast.binary(), [metalcast.binary(), *sys.argv[1:]])
