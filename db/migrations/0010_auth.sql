-- SPDX-License-Identifier: Apache-2.0
-- The school's directory and its accounts. Everything here is write-through.
-- Sessions carry the access token's sid; their id is also the family of their refresh tokens.

SELECT common.create_tables('auth');

CREATE TABLE auth.schools (
	LIKE common.row INCLUDING ALL,
	name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
	slug text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
	buffer text NOT NULL DEFAULT 'main',
	settings jsonb NOT NULL DEFAULT '{}',
	CHECK (id = school_id)
);
CREATE UNIQUE INDEX ON auth.schools (slug) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.schools', 'through');

CREATE TABLE auth.users (
	LIKE common.row INCLUDING ALL,
	email text NOT NULL CHECK (length(email) BETWEEN 3 AND 254 AND email = lower(email)),
	password_hash text NOT NULL CHECK (length(password_hash) <= 128),
	role text NOT NULL CHECK (role IN ('super_admin', 'admin', 'teacher', 'student', 'staff', 'parent')),
	full_name text NOT NULL CHECK (length(full_name) BETWEEN 1 AND 200),
	phone text CHECK (length(phone) <= 32),
	profile_picture_url text CHECK (length(profile_picture_url) <= 2000),
	is_active boolean NOT NULL DEFAULT true,
	email_verified boolean NOT NULL DEFAULT false,
	is_suspended boolean NOT NULL DEFAULT false,
	suspended_at timestamptz,
	last_login_at timestamptz
);
CREATE UNIQUE INDEX users_email ON auth.users (email) WHERE deleted_at IS NULL;
CREATE INDEX ON auth.users (school_id, role) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.users', 'through');

CREATE TABLE auth.sessions (
	LIKE common.row INCLUDING ALL,
	user_id uuid NOT NULL REFERENCES auth.users (id),
	device text CHECK (length(device) <= 512),
	ip text CHECK (length(ip) <= 64),
	remember boolean NOT NULL DEFAULT false,
	expires_at timestamptz NOT NULL,
	revoked_at timestamptz
);
CREATE INDEX ON auth.sessions (user_id) WHERE revoked_at IS NULL;
SELECT common.table_rules('auth.sessions', 'through');

CREATE TABLE auth.refresh_tokens (
	LIKE common.row INCLUDING ALL,
	session_id uuid NOT NULL REFERENCES auth.sessions (id),
	token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
	used_at timestamptz
);
CREATE UNIQUE INDEX ON auth.refresh_tokens (token_hash);
CREATE INDEX ON auth.refresh_tokens (session_id);
SELECT common.table_rules('auth.refresh_tokens', 'through');

CREATE TABLE auth.password_resets (
	LIKE common.row INCLUDING ALL,
	user_id uuid NOT NULL REFERENCES auth.users (id),
	token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
	expires_at timestamptz NOT NULL,
	used_at timestamptz
);
CREATE UNIQUE INDEX ON auth.password_resets (token_hash);
SELECT common.table_rules('auth.password_resets', 'through');

CREATE TABLE auth.teachers (
	LIKE common.row INCLUDING ALL,
	user_id uuid NOT NULL REFERENCES auth.users (id),
	employee_id text CHECK (length(employee_id) <= 50),
	department text CHECK (length(department) <= 100),
	designation text CHECK (length(designation) <= 100),
	qualifications text[],
	experience_years integer CHECK (experience_years BETWEEN 0 AND 80),
	subjects_taught text[],
	hire_date date,
	salary bigint CHECK (salary >= 0),
	status text NOT NULL DEFAULT 'active' CHECK (length(status) <= 32),
	rating bigint
);
CREATE UNIQUE INDEX ON auth.teachers (user_id) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX ON auth.teachers (school_id, employee_id) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.teachers', 'through');

CREATE TABLE auth.staff (
	LIKE common.row INCLUDING ALL,
	user_id uuid NOT NULL REFERENCES auth.users (id),
	employee_id text CHECK (length(employee_id) <= 50),
	designation text CHECK (length(designation) <= 100),
	department text CHECK (length(department) <= 100),
	hire_date date,
	salary bigint CHECK (salary >= 0),
	duties text CHECK (length(duties) <= 2000),
	staff_type text CHECK (length(staff_type) <= 50),
	rights text[] NOT NULL DEFAULT '{}',
	address text CHECK (length(address) <= 1000),
	blood_group text CHECK (length(blood_group) <= 8),
	emergency_contact text CHECK (length(emergency_contact) <= 200),
	date_of_birth date
);
CREATE UNIQUE INDEX ON auth.staff (user_id) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX ON auth.staff (school_id, employee_id) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.staff', 'through');

CREATE TABLE auth.subjects (
	LIKE common.row INCLUDING ALL,
	name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
	code text NOT NULL CHECK (length(code) BETWEEN 1 AND 20),
	description text CHECK (length(description) <= 1000),
	grade_levels integer[],
	credits integer,
	is_optional boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX ON auth.subjects (school_id, code) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.subjects', 'through');

CREATE TABLE auth.classes (
	LIKE common.row INCLUDING ALL,
	name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
	grade integer CHECK (grade BETWEEN 1 AND 12),
	section text CHECK (length(section) <= 20),
	class_teacher_id uuid REFERENCES auth.teachers (id),
	academic_year text NOT NULL CHECK (academic_year ~ '^\d{4}-\d{4}$'),
	room_number text CHECK (length(room_number) <= 20),
	sort_order integer NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX ON auth.classes (school_id, name, coalesce(section, ''), academic_year) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.classes', 'through');

CREATE TABLE auth.class_subjects (
	LIKE common.row INCLUDING ALL,
	class_id uuid NOT NULL REFERENCES auth.classes (id),
	subject_id uuid NOT NULL REFERENCES auth.subjects (id)
);
CREATE UNIQUE INDEX ON auth.class_subjects (class_id, subject_id) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.class_subjects', 'through');

CREATE TABLE auth.teacher_assignments (
	LIKE common.row INCLUDING ALL,
	teacher_id uuid NOT NULL REFERENCES auth.teachers (id),
	class_id uuid NOT NULL REFERENCES auth.classes (id),
	subject_id uuid REFERENCES auth.subjects (id),
	is_class_teacher boolean NOT NULL DEFAULT false,
	academic_year text NOT NULL CHECK (academic_year ~ '^\d{4}-\d{4}$')
);
CREATE UNIQUE INDEX ON auth.teacher_assignments (teacher_id, class_id, subject_id, is_class_teacher, academic_year) WHERE deleted_at IS NULL;
CREATE INDEX ON auth.teacher_assignments (class_id) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.teacher_assignments', 'through');

CREATE TABLE auth.students (
	LIKE common.row INCLUDING ALL,
	user_id uuid NOT NULL REFERENCES auth.users (id),
	admission_number text CHECK (length(admission_number) <= 50),
	roll_number text CHECK (length(roll_number) <= 20),
	class_id uuid REFERENCES auth.classes (id),
	section text CHECK (length(section) <= 20),
	date_of_birth date,
	gender text CHECK (length(gender) <= 20),
	blood_group text CHECK (length(blood_group) <= 8),
	address text CHECK (length(address) <= 1000),
	parent_name text CHECK (length(parent_name) <= 200),
	parent_email text CHECK (length(parent_email) <= 254),
	parent_phone text CHECK (length(parent_phone) <= 32),
	emergency_contact text CHECK (length(emergency_contact) <= 200),
	admission_date date,
	academic_year text CHECK (academic_year ~ '^\d{4}-\d{4}$'),
	transport_mode text CHECK (length(transport_mode) <= 32),
	bus_route_id uuid
);
CREATE UNIQUE INDEX ON auth.students (user_id) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX ON auth.students (school_id, admission_number) WHERE deleted_at IS NULL;
CREATE INDEX ON auth.students (class_id) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.students', 'through');

CREATE TABLE auth.enrolments (
	LIKE common.row INCLUDING ALL,
	student_id uuid NOT NULL REFERENCES auth.students (id),
	class_id uuid NOT NULL REFERENCES auth.classes (id),
	academic_year text NOT NULL CHECK (academic_year ~ '^\d{4}-\d{4}$'),
	roll_number text CHECK (length(roll_number) <= 20),
	"from" date NOT NULL,
	until date CHECK (until >= "from")
);
CREATE UNIQUE INDEX ON auth.enrolments (student_id, academic_year, "from") WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.enrolments', 'through');

CREATE TABLE auth.guardians (
	LIKE common.row INCLUDING ALL,
	user_id uuid NOT NULL REFERENCES auth.users (id),
	student_id uuid NOT NULL REFERENCES auth.students (id),
	relation text CHECK (length(relation) <= 50),
	scope text CHECK (length(scope) <= 200),
	since date,
	until date
);
CREATE UNIQUE INDEX ON auth.guardians (user_id, student_id) WHERE deleted_at IS NULL;
SELECT common.table_rules('auth.guardians', 'through');

-- Who is behind an address, a session or a refresh token is asked before the school is known, so these three see across schools. They give out
-- no more than the login needs, and find living rows only.
CREATE FUNCTION auth.school_of_email(p_email text) RETURNS TABLE (user_id uuid, school_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
	SELECT u.id, u.school_id FROM auth.users AS u WHERE u.email = lower(p_email) AND u.deleted_at IS NULL
$$;
SELECT common.definer('auth.school_of_email(text)', ARRAY['auth.users']::regclass[]);

CREATE FUNCTION auth.school_of_session(p_id uuid) RETURNS TABLE (school_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
	SELECT s.school_id FROM auth.sessions AS s WHERE s.id = p_id
$$;
SELECT common.definer('auth.school_of_session(uuid)', ARRAY['auth.sessions']::regclass[]);

CREATE FUNCTION auth.school_of_refresh_token(p_hash bytea) RETURNS TABLE (school_id uuid, session_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
	SELECT t.school_id, t.session_id FROM auth.refresh_tokens AS t WHERE t.token_hash = p_hash
$$;
SELECT common.definer('auth.school_of_refresh_token(bytea)', ARRAY['auth.refresh_tokens']::regclass[]);
GRANT EXECUTE ON FUNCTION auth.school_of_email(text), auth.school_of_session(uuid), auth.school_of_refresh_token(bytea) TO schools24_auth;

-- Names compare without case and accents: NFD, combining marks out.
CREATE FUNCTION common.folded(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT lower(regexp_replace(normalize(p_text, NFD), '[\u0300-\u036f]', '', 'g'))
$$;
GRANT USAGE ON SCHEMA common TO schools24_auth;
GRANT EXECUTE ON FUNCTION common.folded(text) TO schools24_auth;
