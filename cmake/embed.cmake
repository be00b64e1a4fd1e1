# Turns files into C objects at build time; a changed file rebuilds only its generated source.
set(EMBED_PY ${CMAKE_SOURCE_DIR}/cmake/embed.py)

# embed_sql(target dir prefix): dir/*.sql -> <prefix>_sql.h and .c: `extern const struct pg_stmt SQL_<FILE NAME>;`
function(embed_sql target dir prefix)
  file(GLOB files CONFIGURE_DEPENDS ${dir}/*.sql)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/embed/${prefix}_sql)
  add_custom_command(OUTPUT ${out}.c ${out}.h
    COMMAND /usr/bin/python3 ${EMBED_PY} sql ${out} ${files}
    DEPENDS ${files} ${EMBED_PY} VERBATIM)
  target_sources(${target} PRIVATE ${out}.c ${out}.h)
  target_include_directories(${target} PUBLIC ${CMAKE_CURRENT_BINARY_DIR}/embed)
endfunction()

# embed_lua(target dir prefix): dir/*.lua -> <prefix>_lua.h and .c: `extern const struct redis_script LUA_<FILE NAME>;` with its SHA-1
function(embed_lua target dir prefix)
  file(GLOB files CONFIGURE_DEPENDS ${dir}/*.lua)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/embed/${prefix}_lua)
  add_custom_command(OUTPUT ${out}.c ${out}.h
    COMMAND /usr/bin/python3 ${EMBED_PY} lua ${out} ${files}
    DEPENDS ${files} ${EMBED_PY} VERBATIM)
  target_sources(${target} PRIVATE ${out}.c ${out}.h)
  target_include_directories(${target} PUBLIC ${CMAKE_CURRENT_BINARY_DIR}/embed)
endfunction()

# embed_dicts(target dir): dir/<entity>.<number>.zdict -> the table of common/svc/dicts.h
function(embed_dicts target dir)
  file(GLOB files CONFIGURE_DEPENDS ${dir}/*.zdict)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/embed/dict_table)
  add_custom_command(OUTPUT ${out}.c
    COMMAND /usr/bin/python3 ${EMBED_PY} dicts ${out} ${files}
    DEPENDS ${files} ${EMBED_PY} VERBATIM)
  target_sources(${target} PRIVATE ${out}.c)
endfunction()
