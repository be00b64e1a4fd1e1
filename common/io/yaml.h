/* SPDX-License-Identifier: Apache-2.0 */
/* A flat YAML mapping (libyaml) as pairs for base/conf.h: scalars only; nested maps, duplicates and anchors are errors with their line. */
#ifndef S24_IO_YAML_H
#define S24_IO_YAML_H

#include "base/conf.h"

MUST_CHECK enum err yaml_load(const char *path, struct arena *arena, struct conf_pair **ret, size_t *ret_n, struct buf *problems);
MUST_CHECK enum err yaml_parse(struct str text, struct arena *arena, struct conf_pair **ret, size_t *ret_n, struct buf *problems);
#endif
