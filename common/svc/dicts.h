/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dictionaries of zstd, one or more an entity: common/svc/dicts/<entity>.<number>.zdict, in every program that links this library.
 * `./s24 train-dictionaries` adds a file with the next number. One that was ever released stays: records sealed with it may still wait.
 */
#ifndef S24_SVC_DICTS_H
#define S24_SVC_DICTS_H

#include "io/codec.h"

struct dict {
	const char *entity;
	struct codec_dict zstd;
};
extern struct dict dict_table[]; /* made by the build: by entity, oldest first; ends with entity NULL */

struct codec_dict *dict_newest(const char *entity); /* NULL: none */
struct codec_dict *dict_numbered(const char *entity, uint8_t number); /* NULL: not known to this program; 0 is none */

#endif
