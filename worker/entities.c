/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's own noun: what operators did to the buffer. It is buffered, and flushed by whoever wrote it. */
#include "worker.h"

#include "svc/audit.h"

AUDIT_ENTITY(worker);

const struct entity *const worker_entities[] = {&worker_audit_entity, NULL};
