include(${CMAKE_SOURCE_DIR}/tests/unit/through/rows.cmake)
target_link_libraries(bench_through PRIVATE s24_test_seats PkgConfig::CMOCKA)
