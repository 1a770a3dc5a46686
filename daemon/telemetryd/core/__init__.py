"""Pure, synchronous decisions of the data path: no loop, no clock, no files.

Time arrives as `now`, in seconds of the monotonic clock.
"""
