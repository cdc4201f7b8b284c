"""`make soak`: mixed streams for as long as is asked, and whether anything grew.

The ground is the benchmark's: a rootless lab behind the stand-in proxy, two real sshds
as bastions, and one broker that reaches an echo server over every kind of upstream. What
is looked at is the broker from outside: memory, descriptors, threads, and the time that
opening a stream takes.
"""
