# service(name [TEST]): a daemon from the folder's sources and its sql/; the one line in a service's CMakeLists.txt. TEST: it is not installed.
# The sources but main.c are a library too, so that unit tests and the worker can link them. The statements of its entities are made from
# their descriptors: entities.c is compiled into a small program that prints them, and entity_sql.py writes build/<preset>/sql/<name>/*.sql.
function(service name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  list(FILTER sources EXCLUDE REGEX "/main\\.c$")
  add_library(s24_${name} STATIC ${sources})
  target_link_libraries(s24_${name} PUBLIC s24_svc)
  target_include_directories(s24_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  embed_sql(s24_${name} ${CMAKE_CURRENT_SOURCE_DIR}/sql ${name})

  add_executable(entities_${name} ${CMAKE_SOURCE_DIR}/cmake/print_entities.c ${CMAKE_CURRENT_SOURCE_DIR}/entities.c)
  target_compile_definitions(entities_${name} PRIVATE S24_SERVICE=${name})
  target_link_libraries(entities_${name} PRIVATE s24_svc)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/embed/${name}_entity_sql)
  add_custom_command(OUTPUT ${out}.c ${out}.h
    COMMAND entities_${name} > ${CMAKE_CURRENT_BINARY_DIR}/entities.json
    COMMAND /usr/bin/python3 ${CMAKE_SOURCE_DIR}/cmake/entity_sql.py ${CMAKE_CURRENT_BINARY_DIR}/entities.json
      ${CMAKE_BINARY_DIR}/sql/${name} ${out}
    DEPENDS entities_${name} ${CMAKE_SOURCE_DIR}/cmake/entity_sql.py VERBATIM)
  target_sources(s24_${name} PRIVATE ${out}.c ${out}.h)

  add_executable(schools24-${name} ${CMAKE_CURRENT_SOURCE_DIR}/main.c)
  target_link_libraries(schools24-${name} PRIVATE s24_${name})
  set_target_properties(schools24-${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  if(NOT "TEST" IN_LIST ARGN)
    install(TARGETS schools24-${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endfunction()
