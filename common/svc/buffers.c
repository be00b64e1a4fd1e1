/* SPDX-License-Identifier: Apache-2.0 */
/* Which write buffer a request uses, and how full it is. */
#include "svc/buffers.h"

#include "svc/daemon.h"

struct redis *req_buffer(const struct req *req)
{
	return daemon_buffer(req->daemon);
}

enum pressure req_pressure(const struct req *req)
{
	(void)req;
	return PRESSURE_NONE;
}
