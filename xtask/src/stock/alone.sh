# Nothing: that this was read says that kernel, command line and first root have arrived.
