/* SPDX-License-Identifier: Apache-2.0 */
/*
 * train_dictionaries DIR: a new dictionary for every entity of homework, trained on packed records, with the number after the newest that
 * this program was built with, as DIR/<entity>.<number>.zdict.
 */
#include <stdio.h>
#include <stdlib.h>
#define ZDICT_STATIC_LINKING_ONLY /* to say the id */
#include <zdict.h>

#include "base/buf.h"
#include "bench/records.h"
#include "svc/dicts.h"

enum { SAMPLES = 6000, SIZE_MAX_BYTES = 64 << 10, SIZE_WANTED = 8 << 10, LEVEL = 3 };

static bool write_file(const char *folder, const struct entity *e, unsigned number, struct str bytes)
{
	char path[4096];
	FILE *f;
	bool ok;

	if (snprintf(path, sizeof(path), "%s/%s.%u.zdict", folder, e->name, number) >= (int)sizeof(path))
		return false;
	f = fopen(path, "wxe"); /* a dictionary is never written over: records may need it */
	if (!f)
		return false;
	ok = fwrite(bytes.p, 1, bytes.n, f) == bytes.n;
	if (fclose(f) != 0 || !ok)
		return false;
	printf("%s: %zu bytes\n", path, bytes.n);
	return true;
}

static bool train(const char *folder, const struct entity *e)
{
	static char dict[SIZE_MAX_BYTES];
	static size_t sizes[SAMPLES];
	struct codec_dict *newest = dict_newest(e->name);
	unsigned number = newest ? newest->number + 1u : 1;
	ZDICT_fastCover_params_t how = {
		.d = 8, .steps = 8, .nbThreads = 1, .zParams = {.compressionLevel = LEVEL, .dictID = number}};
	struct buf all = {0};
	size_t n;

	records_samples(e, SAMPLES, &all, sizes);
	n = ZDICT_optimizeTrainFromBuffer_fastCover(dict, SIZE_WANTED, all.p, sizes, SAMPLES, &how);
	buf_done(&all);
	if (ZDICT_isError(n) || number > UINT8_MAX) {
		fprintf(stderr, "%s: %s\n", e->name,
			ZDICT_isError(n) ? ZDICT_getErrorName(n) : "255 dictionaries are all there can be");
		return false;
	}
	return write_file(folder, e, number, (struct str){dict, n});
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "train_dictionaries DIR\n");
		return 2;
	}
	for (size_t i = 0; homework_entities[i]; i++) {
		if (!train(argv[1], homework_entities[i])) {
			fprintf(stderr, "train_dictionaries: %s: nothing written\n", homework_entities[i]->name);
			return 1;
		}
	}
	return 0;
}
