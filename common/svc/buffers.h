/* SPDX-License-Identifier: Apache-2.0 */
/* The write buffers of a daemon: a school lives on one of them (write-path.md 9), and how full each is. */
#ifndef S24_SVC_BUFFERS_H
#define S24_SVC_BUFFERS_H

#include "svc/req.h"

/* The buffer of the caller's school. */
struct redis *req_buffer(const struct req *req);

/* How full that is. HIGH: writes are urgent and wait for their flush; FULL: they are refused. */
enum pressure { PRESSURE_NONE, PRESSURE_HIGH, PRESSURE_FULL };
enum pressure req_pressure(const struct req *req);

#endif
