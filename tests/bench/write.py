#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./s24 bench write [PART...] [--rounds N] [--seconds S]: redis, disk, database, latency, flush, memory, pending"""
import sys

from s24.bench_write import main

sys.exit(main())
