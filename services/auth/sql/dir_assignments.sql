-- $1 teacher → what he is assigned in the school's current year, and the classes that he is class teacher of
SELECT a.class_id, c.name || coalesce(' ' || c.section, '') AS class_name, c.grade, a.subject_id, s.name AS subject_name, a.is_class_teacher, a.academic_year
FROM auth.teacher_assignments AS a
JOIN auth.classes AS c ON c.id = a.class_id AND c.deleted_at IS NULL
JOIN auth.schools AS o ON o.id = a.school_id
LEFT JOIN auth.subjects AS s ON s.id = a.subject_id AND s.deleted_at IS NULL
WHERE a.teacher_id = $1 AND a.deleted_at IS NULL AND a.academic_year = o.settings ->> 'academic_year'
ORDER BY c.sort_order, c.name, c.section, s.name LIMIT 1000
