# The corpus of request heads, read by node's parser too: where node refuses, we do.
find_program(NODE_PROGRAM NAMES node nodejs)
if(NODE_PROGRAM AND NOT S24_FUZZ)
  add_test(NAME http_compare_node
    COMMAND ${NODE_PROGRAM} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/compare_node.mjs $<TARGET_FILE:fuzz_http_head> ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/http_head)
  set_tests_properties(http_compare_node PROPERTIES TIMEOUT 120)
elseif(NOT NODE_PROGRAM)
  message(STATUS "http_compare_node is left out: no node")
endif()
