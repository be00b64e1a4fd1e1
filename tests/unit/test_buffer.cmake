# Its records are homework's.
target_link_libraries(test_buffer PRIVATE s24_homework)
