# The verifier, and homework's records to verify.
target_sources(test_worker_verify PRIVATE ${CMAKE_SOURCE_DIR}/worker/verify.c)
target_include_directories(test_worker_verify PRIVATE ${CMAKE_SOURCE_DIR}/worker)
target_link_libraries(test_worker_verify PRIVATE s24_homework)
