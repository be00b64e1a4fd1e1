# It reads a script of the tree.
target_compile_definitions(test_redis PRIVATE S24_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
