/* SPDX-License-Identifier: Apache-2.0 */
#ifndef S24_BASE_CRC32C_H
#define S24_BASE_CRC32C_H

#include "base/defs.h"

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n); /* Castagnoli; start with 0; SSE 4.2 where the CPU has it */

#endif
