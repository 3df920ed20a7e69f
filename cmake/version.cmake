# What `--version` says beside the version: the build, and which LibTorch its workers run with.
set(LOUPE_BUILD "${CMAKE_BUILD_TYPE}, ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, ${CMAKE_SYSTEM_PROCESSOR}")
set(LOUPE_LIBTORCH "none in this build")
if(LOUPE_WITH_TORCH)
  set(LOUPE_LIBTORCH "version unknown")
  if(EXISTS ${LIBTORCH_ROOT}/version.py)
    file(READ ${LIBTORCH_ROOT}/version.py _text)
    if(_text MATCHES "__version__ = '([^'+]+)")
      set(LOUPE_LIBTORCH "${CMAKE_MATCH_1}, CPU")
    endif()
    if(_text MATCHES "cuda: Optional\\[str\\] = '([^']+)'")
      string(REPLACE ", CPU" ", CUDA ${CMAKE_MATCH_1}" LOUPE_LIBTORCH "${LOUPE_LIBTORCH}")
    endif()
  endif()
endif()

# loupe_says_version(target): LOUPE_BUILD and LOUPE_LIBTORCH for its sources.
function(loupe_says_version target)
  target_compile_definitions(${target} PRIVATE LOUPE_VERSION="${PROJECT_VERSION}" LOUPE_BUILD="${LOUPE_BUILD}"
    LOUPE_LIBTORCH="${LOUPE_LIBTORCH}")
endfunction()
