"""The Extensions API as a server without I/O: `server` decides, `wire` has the form of HTTP/1.1.

Four platforms use it: the local Lambda, the scripted one of the tests, that of the cold start, and
the stub for peers. Each has its own sockets, script and timing. Only the standard library is used.
"""
