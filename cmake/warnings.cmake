# Warnings travel by an interface target, so that generated and third-party code is not held to them.
# No missing-field warnings: designated initialisers leave fields at their defaults on purpose.
add_library(loupe_warnings INTERFACE)
target_compile_options(loupe_warnings INTERFACE
  -Wall -Wextra -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers -Werror)
# Clang sees std::stable_sort of GCC 12's library call what that library has deprecated; and a member function that overrides one
# of some of the LibTorch versions we build with cannot say so (worker/ranks/step_store.cc).
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(loupe_warnings INTERFACE -Wno-deprecated-declarations -Wno-inconsistent-missing-override)
endif()
# GCC 12 sees strings read and written past their end where none is (its bugs 105329 and 105651): in inlined std::string code only.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(loupe_warnings INTERFACE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow
    -Wno-stringop-overread)
endif()
