#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""./s24 bench morning [--seed N] [--hours H] [--speed TIMES] [--classes N] …"""
import sys

from s24.bench_morning import main

sys.exit(main())
