"""`make bench`: natssh beside what people use without it, in the same minutes.

The other side is stock ssh with the ProxyCommand of Teleport's documentation: a
second ssh, which asks the proxy for the subsystem `proxy:HOST:PORT`. Both sides
reach the same nodes of one lab, take turns, and are compared by medians,
because the machine is never quiet.
"""
