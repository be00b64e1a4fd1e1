/* SPDX-License-Identifier: Apache-2.0 */
/* The audit record's field table, apart from the code that fills it: the worker and the build need no more of it. */
#include "svc/audit.h"

ROW_TABLE(audit_row, AUDIT_ROW_FIELDS, 1);
