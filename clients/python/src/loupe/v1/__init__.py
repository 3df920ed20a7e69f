"""Messages of the contract (proto/loupe/v1), generated when the package is built: `loupe.v1.sweep_pb2` and the rest.

What `loupe.Client` does not wrap can be called with them; see `loupe.transport.Method`.
"""
