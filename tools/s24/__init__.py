# SPDX-License-Identifier: Apache-2.0
"""The operator's command and the code that the test harness shares with it."""
