-- $1 school → its directory entry
SELECT id, name, settings ->> 'time_zone' AS time_zone, settings ->> 'academic_year' AS academic_year,
	coalesce((settings ->> 'year_start_month')::int, 4) AS year_start_month, buffer
FROM auth.schools WHERE id = $1 AND deleted_at IS NULL
