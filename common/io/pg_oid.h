/* SPDX-License-Identifier: Apache-2.0 */
/* The types of PostgreSQL that we know, by their fixed oids (catalog/pg_type.dat). For common/io's PostgreSQL files only. */
#ifndef S24_IO_PG_OID_H
#define S24_IO_PG_OID_H

// clang-format off
enum {
	OID_BOOL = 16,
	OID_BYTEA = 17,
	OID_CHAR = 18, /* "char" */
	OID_NAME = 19,
	OID_INT8 = 20,
	OID_INT2 = 21,
	OID_INT4 = 23,
	OID_TEXT = 25,
	OID_JSON = 114,
	OID_FLOAT4 = 700,
	OID_FLOAT8 = 701,
	OID_UNKNOWN = 705,
	OID_INT2S = 1005,
	OID_INT4S = 1007,
	OID_TEXTS = 1009,
	OID_VARCHARS = 1015,
	OID_INT8S = 1016,
	OID_BPCHAR = 1042,
	OID_VARCHAR = 1043,
	OID_DATE = 1082,
	OID_TIMESTAMPTZ = 1184,
	OID_NUMERIC = 1700,
	OID_UUID = 2950,
	OID_UUIDS = 2951,
	OID_JSONB = 3802,
};
// clang-format on

#endif
