-- params: school text ('' for none); result: one row, ignored. Local to the transaction, so row-level security sees one school.
SELECT set_config('app.school_id', $1, true)
