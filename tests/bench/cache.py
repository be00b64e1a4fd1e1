#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./s24 bench cache [PART...] [--rounds N] [--seconds S]: ops, tags, million, herd, http, frozen"""
import sys

from s24.bench_cache import main

sys.exit(main())
