target_link_libraries(test_dicts PRIVATE s24_homework PkgConfig::ZSTD)
