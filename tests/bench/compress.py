#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./s24 bench compress: bytes and memory of every entity's record, as a table and one JSON line for each figure."""
import os
import sys

program = os.path.join(os.environ["S24_BUILD"], "bench", "bench_compress")
os.execv(program, [program, *sys.argv[1:]])
