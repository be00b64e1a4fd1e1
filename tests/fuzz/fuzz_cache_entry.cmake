target_link_libraries(${name} PRIVATE s24_svc s24_io)
