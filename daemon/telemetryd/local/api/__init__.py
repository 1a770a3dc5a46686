"""The Extensions API as a server without I/O: `server` decides, `wire` has the form of HTTP/1.1.

Four platforms stand on it: the local Lambda, the scripted one of the tests, that of the cold start,
and the stub for peers. Each has its own sockets, script and timing. Standard library only.
"""
