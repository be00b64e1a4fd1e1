# The rules of the service itself.
target_link_libraries(test_homework_rules PRIVATE s24_homework)
