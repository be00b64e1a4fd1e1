# Records of every buffered entity; and what makes dictionaries of them. Homework's descriptors come with its library, those of the others as the
# worker takes them.
set(others ${S24_SERVICES})
list(REMOVE_ITEM others homework)
worker_with(bench_compress ${others})
target_sources(bench_compress PRIVATE bench/records.c bench/writer/entities.c)
target_include_directories(bench_compress PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(bench_compress PRIVATE s24_homework s24_worker PkgConfig::ZSTD)
add_executable(train_dictionaries bench/train_dictionaries.c bench/records.c bench/writer/entities.c)
target_include_directories(train_dictionaries PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(train_dictionaries PRIVATE s24_homework PkgConfig::ZSTD s24_test_flags)
set_target_properties(train_dictionaries PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
