# SPDX-License-Identifier: Apache-2.0
"""python3 -m fault, which ./s24 fault calls with the build folder in S24_BUILD."""
import sys

from .core import main

sys.exit(main(sys.argv[1:]))
