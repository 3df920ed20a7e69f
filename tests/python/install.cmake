# cmake -P: installs clients/python from a copy into OUT, as pip does for a user, without an index. Generated again each time: the contract may have changed.
file(REMOVE_RECURSE ${OUT})
execute_process(COMMAND ${PYTHON} -m pip install --disable-pip-version-check --quiet --no-build-isolation --no-deps --no-index --target ${OUT}
  ${SOURCE} COMMAND_ERROR_IS_FATAL ANY)
