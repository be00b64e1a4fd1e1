# Its records are homework's.
target_link_libraries(test_buffer_claims PRIVATE s24_homework)
