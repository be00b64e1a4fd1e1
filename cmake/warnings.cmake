# One interface target with every flag; each line says what it is for.
add_library(s24_flags INTERFACE)

target_compile_definitions(s24_flags INTERFACE _GNU_SOURCE)
target_compile_options(s24_flags INTERFACE
  -Wall -Wextra -Wpedantic
  -Wshadow                 # a name hides another
  -Wconversion             # a value may change silently
  -Wsign-conversion
  -Wformat=2               # format strings are literals
  -Wstrict-prototypes -Wold-style-definition -Wmissing-prototypes
  -Wpointer-arith -Wcast-qual -Wwrite-strings
  -Wundef
  -Wvla -Walloca           # a fiber's stack is small
  -Wswitch-enum            # a new enum value is looked at everywhere
  -Wimplicit-fallthrough -Wnull-dereference -Wdouble-promotion -Wredundant-decls
  -Wdate-time              # builds are reproducible
  -Wno-missing-field-initializers)  # tables leave out what is zero

# A frame must fit a fiber's stack many times. Address instrumentation makes frames larger, so there the limit is too.
if(S24_SANITIZE)
  target_compile_options(s24_flags INTERFACE -Wframe-larger-than=16384)
else()
  target_compile_options(s24_flags INTERFACE -Wframe-larger-than=4096)
endif()

if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(s24_flags INTERFACE -Wformat-signedness -Wduplicated-cond -Wduplicated-branches -Wlogical-op
    -Wjump-misses-init -Wcast-align=strict)
  if(NOT S24_SANITIZE)  # instrumentation makes these two see ghosts
    target_compile_options(s24_flags INTERFACE -Warray-bounds=2 -Wstringop-overflow=4)
  endif()
else()
  target_compile_options(s24_flags INTERFACE -Wcomma -Wno-gnu-zero-variadic-macro-arguments)
endif()

if(S24_SANITIZE STREQUAL "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(s24_flags INTERFACE -Wno-maybe-uninitialized)  # its instrumentation hides the paths; the other builds look
endif()

if(S24_WERROR)
  target_compile_options(s24_flags INTERFACE -Werror)
endif()

if(S24_SANITIZE)
  target_compile_options(s24_flags INTERFACE -fsanitize=${S24_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(s24_flags INTERFACE -fsanitize=${S24_SANITIZE})
endif()

if(CMAKE_BUILD_TYPE STREQUAL "Release" OR CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  # The OpenSSF compiler guide's hardening, as far as gcc 12 and clang 14 know it.
  target_compile_options(s24_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong
    -fstack-clash-protection -fPIE -fno-common)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64")
    target_compile_options(s24_flags INTERFACE -fcf-protection=full)
  endif()
  target_link_options(s24_flags INTERFACE -pie -Wl,-z,relro,-z,now,-z,noexecstack)
endif()

if(S24_FAILPOINTS)
  target_compile_definitions(s24_flags INTERFACE S24_FAILPOINTS)
endif()
