/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C (Castagnoli): finds damage by accident, not by intent. A checksum of pieces: crc = crc32c(crc, piece, n), starting with 0. */
#ifndef S24_BASE_CRC32C_H
#define S24_BASE_CRC32C_H

#include "base/defs.h"

uint32_t crc32c(uint32_t crc, const void *bytes, size_t n); /* Castagnoli; start with 0; SSE 4.2 where the CPU has it */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t n); /* the same by table, so that tests can compare */

#endif
