/* SPDX-License-Identifier: Apache-2.0 */
/* An entity's dictionaries, found in the table that the build makes of common/svc/dicts/. */
#include "svc/dicts.h"

#include <string.h>

struct codec_dict *dict_newest(const char *entity)
{
	struct codec_dict *found = NULL;

	for (struct dict *d = dict_table; d->entity; d++) {
		if (strcmp(d->entity, entity) == 0)
			found = &d->zstd;
	}
	return found;
}

struct codec_dict *dict_numbered(const char *entity, uint8_t number)
{
	for (struct dict *d = dict_table; number != 0 && d->entity; d++) {
		if (d->zstd.number == number && strcmp(d->entity, entity) == 0)
			return &d->zstd;
	}
	return NULL;
}
