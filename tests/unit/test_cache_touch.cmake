include(${CMAKE_SOURCE_DIR}/tests/unit/through/rows.cmake)
target_link_libraries(test_cache_touch PRIVATE s24_test_seats)
