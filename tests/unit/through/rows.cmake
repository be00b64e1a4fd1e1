# The entities of the tests and the bench of writing through, with their statements, made as a service's are.
if(NOT TARGET s24_test_seats)
  set(seats ${CMAKE_SOURCE_DIR}/tests/unit/through)
  add_executable(entities_seats ${CMAKE_SOURCE_DIR}/cmake/print_entities.c ${seats}/entities.c)
  target_compile_definitions(entities_seats PRIVATE S24_SERVICE=fee)
  target_link_libraries(entities_seats PRIVATE s24_svc)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/seats/fee_entity_sql)
  add_custom_command(OUTPUT ${out}.c ${out}.h
    COMMAND entities_seats > ${CMAKE_CURRENT_BINARY_DIR}/seats/entities.json
    COMMAND /usr/bin/python3 ${CMAKE_SOURCE_DIR}/cmake/entity_sql.py ${CMAKE_CURRENT_BINARY_DIR}/seats/entities.json
      ${CMAKE_CURRENT_BINARY_DIR}/seats/sql ${out}
    DEPENDS entities_seats ${CMAKE_SOURCE_DIR}/cmake/entity_sql.py VERBATIM)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/seats)
  add_library(s24_test_seats STATIC ${seats}/entities.c ${out}.c ${out}.h)
  target_include_directories(s24_test_seats PUBLIC ${CMAKE_CURRENT_BINARY_DIR}/seats ${seats})
  target_link_libraries(s24_test_seats PUBLIC s24_svc)
endif()
