/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of a write-through transaction: what tx.c and degraded.c share. */
#ifndef S24_SVC_TX_H
#define S24_SVC_TX_H

#include "svc/audit.h"
#include "svc/req.h"

struct pg_scope db_scope(struct req *req, struct pg_fail *fail);
SUSPENDS MUST_CHECK enum err tx_audit_row(struct tx *tx, const struct audit_row *a);
SUSPENDS MUST_CHECK enum err tx_outbox(struct tx *tx, struct str channel, struct str envelope);

#endif
