/* SPDX-License-Identifier: Apache-2.0 */
/* Build time: a service's entity table as JSON, for cmake/entity_sql.py. */
#include <stdio.h>

#include "svc/kit.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

extern const struct entity *const PASTE(S24_SERVICE, _entities)[];

int main(void)
{
	const struct service service = {.name = TEXT(S24_SERVICE), .entities = PASTE(S24_SERVICE, _entities)};
	struct buf out = {0};

	print_entities(&service, &out);
	fwrite(out.p, 1, out.n, stdout);
	buf_done(&out);
	return 0;
}
