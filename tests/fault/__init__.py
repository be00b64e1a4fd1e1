# SPDX-License-Identifier: Apache-2.0
"""The fault suite: a whole system of real servers under load, what breaks it, and what must be true of it afterwards (README.md)."""
