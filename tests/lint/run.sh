#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything that is checked without running the program.
#   tests/lint/run.sh            all of it
#   tests/lint/run.sh --quick    without clang-tidy, cppcheck and whatever needs a build (seconds)
#   tests/lint/run.sh --since REF    clang-tidy only over the .c files that changed since REF
# S24_LINT_BUILD: folder for clang's build description (default build/lint).
set -u
cd "$(dirname "$0")/../.." || exit 2

quick=no since=
while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=yes ;;
	--since)
		since=${2:?--since needs a commit}
		shift
		;;
	*)
		sed -n '3,7s/^# \?//p' "$0" >&2
		exit 2
		;;
	esac
	shift
done

failed=()
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
out=$scratch/out list=$scratch/list
# step NAME COMMAND…: silent when it is clean, else everything it said.
step() {
	local name=$1
	shift
	if "$@" >"$out" 2>&1; then
		echo "ok      $name"
	else
		echo "FAILED  $name"
		sed 's/^/        /' "$out"
		failed+=("$name")
	fi
}

# Files of the tree: known to git, or new and not ignored, and still there.
tree() {
	git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while IFS= read -r f; do
		[ -f "$f" ] && printf '%s\n' "$f"
	done
}

# Headers are aligned by hand, so that declarations and their comments stand in columns.
format() {
	tree 'common/*.c' 'services/*.c' 'worker/*.c' 'tests/*.c' | xargs -r clang-format --dry-run -Werror
}

shell() {
	local scripts
	scripts=$(tree '*.sh' s24 .ci/run 'tools/*' | while IFS= read -r f; do
		head -n 1 "$f" | grep -qE '^#!.*\b(ba)?sh\b' && printf '%s\n' "$f"
	done)
	[ -z "$scripts" ] || xargs shellcheck -x --severity=warning <<<"$scripts"
}

python() {
	git ls-files --cached --others --exclude-standard -- '*.py' | xargs flake8 --config tests/lint/python.cfg &&
		MYPYPATH=tools:tests mypy --config-file tests/lint/python.cfg --cache-dir build/mypy -p s24 -p fault -p harness
}

cpp_check() {
	tree 'common/*.c' 'services/*.c' 'worker/*.c' >"$list"
	cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 --library=gnu --library=posix -j "$(nproc)" \
		--enable=warning,performance,portability --suppressions-list=tests/lint/cppcheck.suppress \
		-D_GNU_SOURCE -D__x86_64__ -I common --file-list="$list"
}

# clang-tidy reads clang's own flags, and the sources made at build time must be there: they come with the daemons, which the generated pages
# are compared with. Warnings are clang-tidy's business here.
prepare() {
	local name launcher=
	command -v ccache >/dev/null && launcher=-DCMAKE_C_COMPILER_LAUNCHER=ccache
	cmake --preset clang -DS24_WERROR=OFF -DS24_TESTS=OFF $launcher -B "$build" >/dev/null &&
		for name in services/*/ worker/; do
			[ ! -f "$name/CMakeLists.txt" ] || echo "bin/schools24-$(basename "$name")"
		done | xargs -r ninja -C "$build"
}

pages() { tools/docs.py --check --bin "$build/bin"; }

tidy() {
	local files
	if [ -n "$since" ]; then
		files=$(git diff --name-only --diff-filter=d "$since" -- 'common/*.c' 'services/*.c' 'worker/*.c') || return 1
	else
		files=$(tree 'common/*.c' 'services/*.c' 'worker/*.c')
	fi
	[ -z "$files" ] || xargs -P "$(nproc)" -n 4 clang-tidy -p "$build" --quiet <<<"$files"
}

step selftest /usr/bin/python3 -B tests/lint/selftest.py
for lint in layering banned suspends sizes; do
	step "$lint" /usr/bin/python3 -B "tests/lint/$lint.py"
done
step format format
step shellcheck shell
step python python
if [ "$quick" = no ]; then
	build=${S24_LINT_BUILD:-build/lint}
	step cppcheck cpp_check
	step prepare prepare
	step pages pages
	step clang-tidy tidy
fi

if [ ${#failed[@]} -gt 0 ]; then
	echo "failed: ${failed[*]}"
	exit 1
fi
