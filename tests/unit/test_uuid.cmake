# SHA-1 of another hand, to compare with.
target_link_libraries(test_uuid PRIVATE PkgConfig::CRYPTO)
target_compile_options(test_uuid PRIVATE -Wno-deprecated-declarations)
