/* SPDX-License-Identifier: Apache-2.0 */
/* Homework, what is handed in, and the audit records of both, put together from sentences. */
#include "bench/records.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "bench/writer/writer.h"
#include "svc/audit.h"

struct dice {
	uint64_t state;
	enum records_school school;
};

static uint64_t roll(struct dice *d)
{
	uint64_t z = d->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static size_t below(struct dice *d, size_t n)
{
	return (size_t)(roll(d) % n);
}

/* Sentences: # stands for a number. The first of each list are known to every school; each half of the rest to one only. The strange school
 * says nothing that was trained on. */
#define SENTENCES(name, ...) static const char *const name[] = {__VA_ARGS__}

/* clang-format off */
SENTENCES(titles,
	"Chapter # exercises", "Worksheet #", "Read chapter #", "Essay: my neighbourhood", "Project, part #", "Revision for the unit test",
	"Quadratic equations #", "Photosynthesis diagram", "Map work: rivers of India", "Lab report #", "Grammar: tenses, set #", "Poem #: summary",
	"Linear equations in two variables", "Light and mirrors, problems #", "Trigonometry practice #", "Letter to the editor",
	"Democracy and diversity", "Loops in Python #", "Chemical reactions, worksheet #", "Comprehension passage #",
	"Probability, set #", "The French Revolution: timeline", "Acids, bases and salts", "Surface areas and volumes #",
	"Debate preparation", "Spreadsheet of the canteen", "Force and laws of motion", "Story writing #");
SENTENCES(tasks,
	"Solve problems # to # from the text book, page #.", "Show every step.", "Read pages # to # and answer the questions at the end.",
	"Write at least # words.", "Please bring your note book on the due date.", "Use a pencil for the diagrams and label all parts.",
	"Late work will lose # marks.", "Write the answers in complete sentences.", "Work in your own words.", "Attach a photo of your work.",
	"Learn the new words by heart.", "Complete the worksheet given in class.", "You may discuss it with your partner, but write it alone.",
	"Check each root by putting it back into the equation.", "Explain why your method works.", "Draw the graph on squared paper.",
	"Describe the experiment, the observation and the conclusion.", "Mark the capitals and the main rivers on the outline map.",
	"Underline the verbs and name their tenses.", "Prepare three questions for the next lesson.",
	"Compare both authors in a short paragraph.", "Write a program that prints the first # even numbers.",
	"Collect # leaves and press them between newspaper.", "Measure the room and calculate its area and volume.",
	"Balance the equations on page #.", "Interview an older person in your family about their school days.",
	"Find # examples in your kitchen.", "Revise the formulas of chapter # before you begin.",
	"Copy the table and fill in the missing values.", "Make a poster with no more than # words.");
SENTENCES(answers,
	"Please find my homework attached.", "I have solved all problems from # to #.", "Answer #: x = # and x = -#.",
	"I could not finish problem # because I did not understand the second step.", "The main character is brave and honest.",
	"The experiment shows that the solution turns blue.", "In my opinion the author wants to tell us that friendship is important.",
	"The area is # square metres and the perimeter is # metres.", "Question # was difficult.", "Step #: we take the common factor out.",
	"Therefore the value of the expression is #.", "Plants need sunlight, water and carbon dioxide to make their food.",
	"The capital of the state is marked with a red dot.", "First I read the chapter twice and then I wrote the summary.",
	"The roots are real because the discriminant is #.", "My grandmother walked # kilometres to her school every day.",
	"The program prints the numbers from # to # in one line.", "The revolution began because bread became too expensive.",
	"We measured the temperature every # minutes.", "Both lines meet at the point (#, #).",
	"The poet compares the sea to a sleeping lion.", "The acid turned the litmus paper red after # seconds.",
	"I think the voting age should stay at #.", "Force is mass times acceleration, so it is # newton.");
SENTENCES(comments,
	"Well done.", "Good work, but check the units.", "Please show the steps next time.", "Very neat.", "Problem # is wrong, see page #.",
	"See me after class.", "Excellent explanation.", "Read the question again.", "The diagram needs labels.", "Much better than last time.",
	"Your conclusion does not follow from the table.", "A lively text with few mistakes.", "Half of the roots are missing.", "Keep it up!");
SENTENCES(agents,
	"Mozilla/5.0 (Linux; Android 13; SM-A146B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Mobile Safari/537.36",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
	"Mozilla/5.0 (Linux; Android 14; Redmi Note 12) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/123.0.0.0 Mobile Safari/537.36",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.3 Safari/605.1.15");
SENTENCES(files, "page#.jpg", "IMG_#.jpg", "homework#.pdf", "scan_#.pdf", "essay.docx", "notes-#.png", "graph#.jpg", "poster.pptx");
/* clang-format on */

static void sentence(struct dice *d, const char *const *list, size_t n, struct buf *out)
{
	size_t known = n / 2, own = (n - known) / 2;
	size_t from = d->school == RECORDS_STRANGE ? known + own : 0,
	       at = from + below(d, d->school == RECORDS_STRANGE ? n - from : known + own);

	if (d->school == RECORDS_MEASURE && at >= known)
		at += own;
	for (const char *p = list[at]; *p; p++) {
		if (*p == '#')
			buf_put_i64(out, 1 + (int64_t)below(d, 120));
		else
			buf_putc(out, *p);
	}
}
#define SENTENCE(d, list, out) sentence((d), (list), ARRAY_LEN(list), (out))

static void sentences(struct dice *d, const char *const *list, size_t n, size_t most, struct buf *out)
{
	for (size_t i = 0, count = 1 + below(d, most); i < count; i++) {
		if (i != 0)
			buf_putc(out, below(d, 4) == 0 ? '\n' : ' ');
		sentence(d, list, n, out);
	}
}

static struct uuid any_id(struct dice *d)
{
	struct uuid id;

	for (size_t i = 0; i < sizeof(id.b); i++)
		id.b[i] = (uint8_t)roll(d);
	id.b[6] = (uint8_t)((id.b[6] & 15) | 0x70);
	id.b[8] = (uint8_t)((id.b[8] & 63) | 0x80);
	return id;
}

/* One of the school's `n` of a kind: the same every time. */
static struct uuid known_id(struct dice *d, unsigned kind, size_t n)
{
	struct dice own = {.state = (uint64_t)d->school * 1000003 + kind * 65537 + below(d, n) * 101, .school = d->school};

	return any_id(&own);
}

static int64_t instant(struct dice *d)
{
	return INT64_C(1750000000000000) + (int64_t)(roll(d) % (UINT64_C(300) * 86400 * 1000000));
}

static struct buf file_json(struct dice *d, struct arena *arena)
{
	struct buf b = buf_in(arena);

	buf_put(&b, "{\"id\":\"", 7);
	buf_put_uuid(&b, any_id(d));
	buf_puts(&b, STR("\",\"file_name\":\""));
	SENTENCE(d, files, &b);
	buf_printf(&b, "\",\"file_size\":%zu,\"mime_type\":\"image/jpeg\",\"sha256\":\"%016llx%016llx%016llx%016llx\"}",
		   20000 + below(d, 900000), (unsigned long long)roll(d), (unsigned long long)roll(d),
		   (unsigned long long)roll(d), (unsigned long long)roll(d));
	return b;
}

static void *head(struct dice *d, const struct entity *e, struct arena *arena)
{
	struct row *row = arena_zalloc(arena, e->schema->size);

	row->id = any_id(d);
	row->school_id = known_id(d, 1, 1);
	row->created_at = instant(d);
	row->updated_at = row->created_at + (below(d, 3) == 0 ? (int64_t)below(d, 86400) * 1000000 : 0);
	row->version = row->updated_at;
	return row;
}

static void *homework_row(struct dice *d, struct arena *arena)
{
	struct homework *hw = head(d, &homework_entity, arena);
	struct buf title = buf_in(arena), text = buf_in(arena), file = buf_in(arena);
	int32_t day = (int32_t)(hw->row.created_at / INT64_C(86400000000));

	SENTENCE(d, titles, &title);
	sentences(d, tasks, ARRAY_LEN(tasks), 5, &text);
	FIELD_PUT(hw, homework, title, buf_str(&title));
	FIELD_PUT(hw, homework, description, buf_str(&text));
	FIELD_PUT(hw, homework, class_id, known_id(d, 2, 32));
	FIELD_PUT(hw, homework, subject_id, known_id(d, 3, 6));
	FIELD_PUT(hw, homework, teacher_id, known_id(d, 4, 50));
	FIELD_PUT(hw, homework, due_date, day + 1 + (int32_t)below(d, 14));
	if (below(d, 4) == 0)
		FIELD_PUT(hw, homework, close_date, day + 15 + (int32_t)below(d, 14));
	FIELD_PUT(hw, homework, max_marks, 10 * (1 + (int64_t)below(d, 10)));
	FIELD_PUT(hw, homework, status, below(d, 12) == 0 ? HOMEWORK_ARCHIVED : HOMEWORK_ACTIVE);
	if (below(d, 6) == 0) {
		struct buf one = file_json(d, arena);

		buf_putc(&file, '[');
		buf_puts(&file, buf_str(&one));
		buf_putc(&file, ']');
		FIELD_PUT(hw, homework, attachments, buf_str(&file));
	}
	return hw;
}

static void *submission_row(struct dice *d, struct arena *arena)
{
	struct submission *sub = head(d, &submission_entity, arena);
	struct buf text = buf_in(arena), feedback = buf_in(arena);

	sentences(d, answers, ARRAY_LEN(answers), 8, &text);
	FIELD_PUT(sub, submission, homework_id, any_id(d));
	FIELD_PUT(sub, submission, student_id, known_id(d, 5, 1000));
	FIELD_PUT(sub, submission, class_id, known_id(d, 2, 32));
	FIELD_PUT(sub, submission, teacher_id, known_id(d, 4, 50));
	FIELD_PUT(sub, submission, submission_text, buf_str(&text));
	FIELD_PUT(sub, submission, submitted_at, sub->row.updated_at);
	FIELD_PUT(sub, submission, is_late, below(d, 8) == 0);
	FIELD_PUT(sub, submission, status, sub->is_late ? SUBMISSION_LATE : SUBMISSION_SUBMITTED);
	if (below(d, 3) == 0) {
		SENTENCE(d, comments, &feedback);
		FIELD_PUT(sub, submission, status, SUBMISSION_GRADED);
		FIELD_PUT(sub, submission, marks_obtained, 50 * (int64_t)below(d, 200));
		FIELD_PUT(sub, submission, feedback, buf_str(&feedback));
		FIELD_PUT(sub, submission, graded_at, sub->row.updated_at);
		FIELD_PUT(sub, submission, graded_by, sub->teacher_id);
	}
	return sub;
}

static struct str some_json(const struct schema *s, const void *row, uint64_t mask, struct arena *arena)
{
	struct buf out = buf_in(arena);

	json_encode_some(s, row, mask, &out);
	return buf_str(&out);
}

/* A creation says all fields, a change what it changed. */
static void *audit_row(struct dice *d, const struct entity *of, struct arena *arena)
{
	struct audit_row *a = head(d, of, arena);
	bool by_teacher = below(d, 5) == 0, creation = by_teacher ? below(d, 3) != 0 : below(d, 4) != 0;
	const struct entity *e = by_teacher ? &homework_entity : &submission_entity;
	const struct row *row = by_teacher ? homework_row(d, arena) : submission_row(d, arena);
	uint64_t set = ((const struct fields *)(const void *)row)->set;
	uint64_t changed = UINT64_C(1) << submission__submission_text | UINT64_C(1) << submission__submitted_at;
	struct buf agent = buf_in(arena), ip = buf_in(arena), request = buf_in(arena);

	if (by_teacher)
		changed = UINT64_C(1) << homework__description | UINT64_C(1) << homework__due_date;
	FIELD_PUT(a, audit_row, actor, known_id(d, by_teacher ? 6 : 7, by_teacher ? 50 : 1000));
	FIELD_PUT(a, audit_row, role, by_teacher ? STR("teacher") : STR("student"));
	FIELD_PUT(a, audit_row, action, creation ? STR("create") : STR("update"));
	FIELD_PUT(a, audit_row, entity_type, str_of(e->name));
	FIELD_PUT(a, audit_row, entity_id, row->id);
	FIELD_PUT(a, audit_row, new_values, some_json(e->schema, row, creation ? set : changed & set, arena));
	if (!creation) {
		const void *old = by_teacher ? homework_row(d, arena) : submission_row(d, arena);

		FIELD_PUT(a, audit_row, old_values,
			  some_json(e->schema, old, changed & ((const struct fields *)old)->set, arena));
	}
	SENTENCE(d, agents, &agent);
	buf_printf(&ip, "%zu.%zu.%zu.%zu", 1 + below(d, 223), below(d, 256), below(d, 256), 1 + below(d, 254));
	buf_printf(&request, "%016llx%016llx", (unsigned long long)roll(d), (unsigned long long)roll(d));
	FIELD_PUT(a, audit_row, ip, buf_str(&ip));
	FIELD_PUT(a, audit_row, user_agent, buf_str(&agent));
	FIELD_PUT(a, audit_row, request_id, buf_str(&request));
	return a;
}

/* Twenty answers of a quiz with short names of questions, as in the body that the write bench sends. */
static void *quiz_row(struct dice *d, struct arena *arena)
{
	enum { ANSWERS = 20 };
	struct quiz *quiz = head(d, &quiz_entity, arena);
	struct answer *v = arena_array(arena, ANSWERS, sizeof(*v));

	for (size_t i = 0; i < ANSWERS; i++) {
		int64_t *selected = arena_array(arena, 2, sizeof(*selected));

		v[i] = (struct answer){{0}};
		selected[0] = (int64_t)below(d, 4);
		selected[1] = (int64_t)below(d, 4);
		FIELD_PUT(&v[i], answer, question, str_of(arena_printf(arena, "que-%03zu", i + 1)));
		FIELD_PUT(&v[i], answer, selected, ((struct list){selected, 2}));
		FIELD_PUT(&v[i], answer, seconds, 5 + (int64_t)below(d, 120));
	}
	FIELD_PUT(quiz, quiz, quiz_id, known_id(d, 8, 40));
	FIELD_PUT(quiz, quiz, attempt_id, any_id(d));
	FIELD_PUT(quiz, quiz, student_id, known_id(d, 5, 1000));
	FIELD_PUT(quiz, quiz, started_at, quiz->row.created_at - 1200000000);
	FIELD_PUT(quiz, quiz, answers, ((struct list){v, ANSWERS}));
	FIELD_PUT(quiz, quiz, client, STR("web 4.2.1-rc1.23"));
	return quiz;
}

/* Of an entity that has no sentences of its own here: every field of a common type has a value, required or not. */
static void *any_row(struct dice *d, const struct entity *e, struct arena *arena)
{
	char *row = head(d, e, arena);

	for (size_t i = 0; i < e->schema->n; i++) {
		const struct field *f = &e->schema->fields[i];
		struct buf text = buf_in(arena);
		void *at = row + f->offset;

		if (f->type == FIELD_UUID) {
			*(struct uuid *)at = known_id(d, 20 + (unsigned)i, 100);
		} else if (f->type == FIELD_TEXT) {
			SENTENCE(d, comments, &text);
			*(struct str *)at = buf_str(&text);
			if (f->max > 0 && text.n > (size_t)f->max)
				continue;
		} else if (f->type == FIELD_INT || f->type == FIELD_MONEY || f->type == FIELD_DECIMAL) {
			*(int64_t *)at = (int64_t)below(d, 1000);
		} else if (f->type == FIELD_TIME) {
			*(int64_t *)at = instant(d);
		} else if (f->type == FIELD_DATE) {
			*(int32_t *)at = 20000 + (int32_t)below(d, 300);
		} else if (f->type == FIELD_ENUM) {
			*(int *)at = (int)below(d, f->names.n);
		} else if (f->type == FIELD_BOOL) {
			*(bool *)at = below(d, 2) == 0;
		} else {
			continue;
		}
		((struct fields *)(void *)(row + offsetof(struct row, f)))->set |= UINT64_C(1) << i;
	}
	return row;
}

void *records_row(enum records_school school, const struct entity *e, uint64_t seed, struct arena *arena)
{
	struct dice d = {.state = seed * 2654435761u + (uint64_t)school * 977, .school = school};

	if (e == &homework_entity)
		return homework_row(&d, arena);
	if (e == &submission_entity)
		return submission_row(&d, arena);
	if (e == &quiz_entity)
		return quiz_row(&d, arena);
	if (e->schema == &audit_row_schema)
		return audit_row(&d, e, arena);
	return any_row(&d, e, arena);
}

void records_samples(const struct entity *e, size_t n, struct buf *ret, size_t *ret_sizes)
{
	for (size_t i = 0; i < n; i++) {
		struct arena *arena = arena_new();
		size_t before = ret->n;

		row_pack(e->schema, records_row(RECORDS_TRAIN, e, i, arena), ret);
		ret_sizes[i] = ret->n - before;
		arena_free(arena);
	}
}
