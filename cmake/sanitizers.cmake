# Builds under a sanitizer. LOUPE_SANITIZER is address (with undefined behaviour), thread, or empty; LOUPE_LIBFUZZER, with address,
# lets libFuzzer drive the fuzz targets (clang only). For the whole program, third-party headers included, since a sanitizer sees
# only what was compiled for it. Not optimised: ./test compiles such a build anew each time, which takes half (address) or two thirds
# (thread) of the time that -Og does, and runs it for one to three minutes.
set(LOUPE_SANITIZER "" CACHE STRING "Sanitizer of this build: address, thread or none")
option(LOUPE_LIBFUZZER "Link the fuzz targets with libFuzzer" OFF)

set(_sanitizer_flags)
if(LOUPE_SANITIZER STREQUAL "address")
  # Eigen as in an ordinary build, which may be asked for the mathematics (LOUPE_READY): told of AddressSanitizer it would take
  # malloc's memory for badly aligned, and the halves would free each other's in another way.
  set(_sanitizer_flags -fsanitize=address,undefined -fno-sanitize-recover=undefined -DEIGEN_MALLOC_ALREADY_ALIGNED=1)
elseif(LOUPE_SANITIZER STREQUAL "thread")
  # By GCC (its preset says so): Clang's runtime is linked statically, and a test's own operator new cannot stand beside it.
  # By __SANITIZE_THREAD__ protobuf's headers give messages members that Debian's library, built without it, does not know of.
  # The standard library's headers go by a name of their own.
  # Asio's fences say nothing to it, and GCC warns of each; what they order is ordered by its queues' mutexes, too.
  set(_sanitizer_flags -fsanitize=thread -U__SANITIZE_THREAD__ -D_GLIBCXX_TSAN=1 -Wno-tsan)
elseif(LOUPE_SANITIZER)
  message(FATAL_ERROR "LOUPE_SANITIZER is '${LOUPE_SANITIZER}', expected address or thread")
endif()
if(LOUPE_LIBFUZZER)
  list(APPEND _sanitizer_flags -O1 -fsanitize=fuzzer-no-link)
endif()
if(LOUPE_SANITIZER)
  add_compile_options(-O0 -g1 -fno-omit-frame-pointer -D_GLIBCXX_ASSERTIONS ${_sanitizer_flags})
  add_link_options(${_sanitizer_flags})
endif()
