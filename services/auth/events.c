/* SPDX-License-Identifier: Apache-2.0 */
/* Auth's events are of write-through changes: they go through the outbox (tx_event), so the table of engine events is empty. */
#include "auth.h"

const struct event_row auth_events[] = {{0}};
