"""python -m metalcast is the program metalcast."""
import os
import sys

import metalcast

os.execv(metalcast.binary(), [metalcast.binary(), *sys.argv[1:]])
