target_link_libraries(test_codec PRIVATE PkgConfig::ZSTD) # makes frames that codec_seal would not
