#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every lint must catch what it is for, and let the rest pass: a lint that finds nothing proves nothing."""
import os
import sys
import tempfile
import unittest

import banned
import layering
import sizes
import suspends


class Tree(unittest.TestCase):
    def found(self, lint, **files):
        """Messages of the lint on a tree of these files; common__io__x_c names common/io/x.c."""
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                path = os.path.join(root, name.replace("__", "/"))
                path = path[:-2] + "." + path[-1]
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
            return [f"{p}:{n}: {m}" for p, n, m in lint.check(root)]

    def caught(self, lint, part, **files):
        found = self.found(lint, **files)
        self.assertEqual(len(found), 1, found)
        self.assertIn(part, found[0])

    def clean(self, lint, **files):
        self.assertEqual(self.found(lint, **files), [])


class Layering(Tree):
    def test_includes_upwards_are_caught(self):
        self.caught(layering, "common/base/a.c:2: io/loop.h", common__base__a_c='#include "base/a.h"\n#include "io/loop.h"\n')
        self.caught(layering, "svc/req.h", common__io__a_c='#include "svc/req.h"\n')

    def test_library_headers_are_caught(self):
        self.caught(layering, "<jansson.h>", common__base__a_c="#include <jansson.h>\n")
        self.caught(layering, "<event2/event.h>", common__svc__a_c="#include <event2/event.h>\n")
        self.caught(layering, "<libpq-fe.h>", services__quiz__a_c="#  include <libpq-fe.h>\n")

    def test_what_the_layers_allow_passes(self):
        self.clean(
            layering,
            common__base__a_c="#include <stdio.h>\n#include <sys/random.h>\n#include <emmintrin.h>\n",
            common__io__a_c='#include <event2/event.h>\n#include "base/a.h"\n#include "io_sql.h"\n',
            common__io__a_h='#include "base/a.h"\n',
            common__svc__b_internal_h="",
            common__svc__a_c='#include <jansson.h>\n#include "svc/b_internal.h"\n#include "io/a.h"\n#include "svc_lua.h"\n',
            services__quiz__quiz_h='#include "svc/a.h"\n',
            services__quiz__a_c='#include <jansson.h>\n#include "quiz.h"\n#include "io/a.h"\n#include "quiz_sql.h"\n',
        )

    def test_another_services_header_is_caught(self):
        self.caught(layering, "fee.h", services__fee__fee_h="", services__quiz__a_c='#include "fee.h"\n')
        self.caught(layering, "another component", services__fee__fee_h="", services__quiz__a_c='#include "fee/fee.h"\n')

    def test_headers_of_io_that_are_no_ports_are_caught(self):
        self.caught(
            layering, "services/quiz/a.c:1: io/top.h is not a port", common__io__deep_h="#include <event2/event.h>\n",
            common__io__top_h='#include "io/deep.h"\n', services__quiz__a_c='#include "io/top.h"\n',
        )
        self.caught(layering, "is internal", common__io__x_internal_h="", common__svc__a_c='#include "io/x_internal.h"\n')

    def test_sql_is_caught_also_in_pieces(self):
        for text in ('"SELECT 1"', '"INSERT " "INTO t"', '"UPDATE t\\n" "SET a = 1"', '"DELETE FROM t"', '"select a from t"'):
            self.caught(layering, "SQL text", common__io__a_c=f"static const char s[] = {text};\n")

    def test_redis_commands_prose_and_comments_are_not_sql(self):
        self.clean(layering, common__io__a_c='/* SELECT a FROM t */\nchar *a = "SELECT", *b = "select a class", *c = "update failed";\n')


class Banned(Tree):
    def test_each_name_is_caught(self):
        for name in banned.BANNED:
            self.caught(banned, f"common/svc/a.c:3: {name}()", common__svc__a_c=f"void f(void)\n{{\n\tg({name}(x));\n}}\n")

    def test_the_allowed_files_pass_and_others_do_not(self):
        self.clean(banned, common__base__arena_c="void f(void) { malloc(1); }\n")
        self.clean(banned, common__io__pg_sync_c='void f(void) { PQexec(c, "x"); }\n')
        self.caught(banned, "PQexec()", common__io__pg_c='void f(void) { PQexec(c, "x"); }\n')
        self.caught(banned, "malloc()", worker__arena_c="void f(void) { malloc(1); }\n")

    def test_members_strings_and_comments_pass(self):
        self.clean(banned, common__svc__a_c='/* strcpy(a, b) */ void f(void) { x->time(1); y.system(2); g("strcpy(a)", my_strcpy(1)); }\n')

    def test_thread_locals_line_comments_and_unfinished_work_are_caught(self):
        self.caught(banned, "thread_local", common__svc__a_c="static thread_local int x;\n")
        self.caught(banned, "// comments", common__svc__a_c="int x; // one\n")
        self.caught(banned, "unfinished", common__svc__a_c="/* TO" "DO: the rest */\n")
        self.clean(banned, common__svc__a_c='// clang-format off\nchar *x = "http://host/";\n')


WAIT = "SUSPENDS MUST_CHECK enum err await(struct op *op, struct deadline d);\n"


class Suspends(Tree):
    def test_a_call_without_the_mark_is_caught(self):
        self.caught(suspends, "common/svc/a.c:3: f() calls await()", common__io__await_h=WAIT,
                    common__svc__a_c="enum err f(void)\n{\n\treturn await(op, d);\n}\n")

    def test_the_mark_of_a_static_function_counts_in_its_file_only(self):
        static = "static SUSPENDS void f(void)\n{\n\tIGNORE(await(op, d));\n}\n"
        self.caught(suspends, "g() calls f()", common__io__await_h=WAIT, common__svc__a_c=static + "void g(void) { f(); }\n",
                    common__svc__b_c="static void f(void) { }\nvoid h(void) { f(); }\n")

    def test_marked_callers_and_declared_marks_pass(self):
        self.clean(suspends, common__io__await_h=WAIT + "SUSPENDS enum err f(void);\n",
                   common__svc__a_c="enum err f(void)\n{\n\treturn await(op, d);\n}\nSUSPENDS PRINTF(1, 2) static void g(const char *s, ...) { f(); }\n")

    def test_members_pointers_and_tables_pass(self):
        self.clean(suspends, common__io__await_h=WAIT,
                   common__svc__a_c="static const struct t t[] = {{.fn = await}, {ROW(await)}};\nvoid f(void) { x->await(1); spawn(await, 1); }\n")

    def test_a_macro_of_many_lines_does_not_confuse(self):
        self.caught(suspends, "common/svc/a.c:6: f()", common__io__await_h=WAIT,
                    common__svc__a_c="#define M(x) \\\n\tdo { \\\n\t} while (0) /* a\n comment { */\n\nvoid f(void) { await(1, 2); }\n")


class Sizes(Tree):
    def test_long_files_mains_and_functions_are_caught(self):
        self.caught(sizes, "601 lines", common__svc__a_c="int x;\n" * 601)
        self.caught(sizes, "26 lines", services__quiz__main_c="int x;\n" * 26)
        self.caught(sizes, "f() has 81 lines", common__svc__a_c="void f(void)\n{\n" + "\tg();\n" * 78 + "}\n")

    def test_what_just_fits_passes(self):
        self.clean(sizes, common__svc__a_c="int x;\n" * 600, services__quiz__main_c="int x;\n" * 25,
                   common__svc__b_c="void f(void)\n{\n" + "\tg();\n" * 77 + "}\n", common__svc__c_c="int t[] = {\n" + "1,\n" * 200 + "};\n")


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    unittest.main()
