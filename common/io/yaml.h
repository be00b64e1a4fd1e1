/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A flat YAML mapping (libyaml) as pairs for base/conf.h: scalars only; nested maps, lists, duplicates, anchors and tags are errors with their line.
 *
 * Values are the scalars' text as written (`on` stays "on": the table's type decides); a plain `~`, `null` or nothing is the empty text. Every problem is
 * appended to `problems`, a line each ("homework.yaml:3: …", from text "line 3: …"), and on any of them no pairs are returned. An empty file has no pairs.
 * ERR_INVALID: problems; ERR_TOO_LARGE: more than YAML_SIZE_MAX bytes; ERR_NOT_FOUND, ERR_IO: the file cannot be read. All of them leave a problem.
 */
#ifndef S24_IO_YAML_H
#define S24_IO_YAML_H

#include "base/conf.h"

#define YAML_SIZE_MAX 65536

MUST_CHECK enum err yaml_load(const char *path, struct arena *arena, struct conf_pair **ret, size_t *ret_n, struct buf *problems);
MUST_CHECK enum err yaml_parse(struct str text, struct arena *arena, struct conf_pair **ret, size_t *ret_n, struct buf *problems);
#endif
