# It looks at the wire format itself.
target_link_libraries(test_pg_value PRIVATE PkgConfig::PQ)
