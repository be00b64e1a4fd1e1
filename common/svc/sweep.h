/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daily sweep of a daemon: files that no row has named for a day (service.h: named_files), documents that nobody can find any more. One replica
 * at a time, by a key in the buffer's Redis; every S24_SWEEP_INTERVAL_S.
 *
 * Files are left alone while a record of the service waits in the buffer for half a day, or is a dead letter: it may name one of them.
 */
#ifndef S24_SVC_SWEEP_H
#define S24_SVC_SWEEP_H

#include "base/err.h"

struct buf;
struct daemon;

MUST_CHECK enum err sweep_start(struct daemon *d);
void sweep_cancel(struct daemon *d);
void sweep_metrics(const struct daemon *d, struct buf *out);

#endif
