-- → ids of the classes of the school's current year, whose rosters are kept warm
SELECT c.id
FROM auth.classes AS c JOIN auth.schools AS o ON o.id = c.school_id
WHERE c.deleted_at IS NULL AND c.academic_year = o.settings ->> 'academic_year'
ORDER BY c.sort_order, c.name, c.section LIMIT 200
