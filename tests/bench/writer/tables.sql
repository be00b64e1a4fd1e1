-- SPDX-License-Identifier: Apache-2.0
-- The bench daemon's tables, beside those of homework, made by the migration role.
CREATE TABLE homework.bench_single (LIKE homework.homework INCLUDING ALL);
SELECT common.table_rules('homework.bench_single', 'through');
CREATE TABLE homework.bench_through (LIKE homework.homework INCLUDING ALL);
SELECT common.table_rules('homework.bench_through', 'through');
CREATE TABLE homework.bench_quiz (
	LIKE common.row INCLUDING ALL,
	quiz_id uuid NOT NULL,
	attempt_id uuid NOT NULL,
	started_at timestamptz NOT NULL,
	answers jsonb NOT NULL,
	client text CHECK (length(client) <= 100),
	student_id uuid NOT NULL
);
SELECT common.table_rules('homework.bench_quiz', 'buffer');
