"""asyncio around the core: sockets in, queues between, delivery out."""
