"""telemetryd as an external Lambda extension.

    boot      register, listen, subscribe, next: raw sockets, almost nothing imported
    early     the few settings needed before `next`
    http      HTTP/1.1 as far as the three APIs on loopback need it
    starter   the name of the script that started us, when the platform does not know ours
    run       everything after: the daemon, the invocations, the shutdown
    fallback  what is left when anything fails: read, count, discard, poll `next`

What is to be done when, `core.lifecycle` says: `run` and `fallback` execute it.

`boot`, `early`, `http`, `starter` and `fallback` run before, or without, everything else: they may
import only built-in modules, and `core.lifecycle`, which imports nothing
(`tests/integration/test_boot_imports.py`).
"""
