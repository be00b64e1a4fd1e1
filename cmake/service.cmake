# service(name): a daemon from the folder's sources and its sql/; the one line in a service's CMakeLists.txt.
# The sources but main.c are a library too, so that unit tests can link a service's own algorithms.
function(service name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  list(FILTER sources EXCLUDE REGEX "/main\\.c$")
  add_library(s24_${name} STATIC ${sources})
  target_link_libraries(s24_${name} PUBLIC s24_svc)
  target_include_directories(s24_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  embed_sql(s24_${name} ${CMAKE_CURRENT_SOURCE_DIR}/sql ${name})
  add_executable(schools24-${name} ${CMAKE_CURRENT_SOURCE_DIR}/main.c)
  target_link_libraries(schools24-${name} PRIVATE s24_${name})
  set_target_properties(schools24-${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  install(TARGETS schools24-${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()
