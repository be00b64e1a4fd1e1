# Records of homework; and what makes dictionaries of them.
target_sources(bench_compress PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/bench/records.c)
target_include_directories(bench_compress PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(bench_compress PRIVATE s24_homework)
add_executable(train_dictionaries bench/train_dictionaries.c bench/records.c)
target_include_directories(train_dictionaries PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(train_dictionaries PRIVATE s24_homework PkgConfig::ZSTD s24_test_flags)
set_target_properties(train_dictionaries PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
