# Warnings travel by an interface target, so that generated and third-party code is not held to them.
# No missing-field warnings: designated initialisers leave fields at their defaults on purpose.
add_library(loupe_warnings INTERFACE)
target_compile_options(loupe_warnings INTERFACE
  -Wall -Wextra -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers -Werror)
