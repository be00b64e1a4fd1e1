/* SPDX-License-Identifier: Apache-2.0 */
/* Events as tests send them, and a listener that notes their ids in `heard`, each with a blank behind it. */
#ifndef S24_UNIT_HEARD_H
#define S24_UNIT_HEARD_H

#include "unit/unit.h"

#include "base/schema.h"
#include "svc/listen.h"

#define ENVELOPE(id, event) "{\"id\":\"" id "\",\"type\":\"org.schools24.homework." event ".v1\",\"data\":{\"n\":1}}"

static char heard[512];

static enum err hear(struct daemon *d, struct str envelope)
{
	struct str id;

	(void)d;
	assert_true(json_member(envelope, "id", &id));
	snprintf(heard + strlen(heard), sizeof(heard) - strlen(heard), "%.*s ", (int)id.n - 2, id.p + 1);
	return OK;
}

#endif
