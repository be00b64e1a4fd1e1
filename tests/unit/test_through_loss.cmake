include(${CMAKE_SOURCE_DIR}/tests/unit/through/rows.cmake)
target_link_libraries(test_through_loss PRIVATE s24_test_seats)
