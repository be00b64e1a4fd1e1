#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./s24 bench kit [PART...] [--rounds N] [--seconds S]: json, start, idle, route"""
import sys

from s24.bench_kit import main

sys.exit(main())
