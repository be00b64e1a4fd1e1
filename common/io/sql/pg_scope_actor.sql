-- params: school text ('' for none), actor text; result: one row, ignored. The actor shows in pg_stat_activity.
SELECT set_config('app.school_id', $1, true), set_config('application_name', $2, true)
