"""Ansible's own integration suites, run against a node of the lab through natssh.

The suites come with ansible-core's source, as folders of `test/integration/targets`; `core` fetches them, pinned, and
nothing of them is changed. They expect an sshd on port 22 of `localhost`, and that they may do as they like there. So
the runner, where it is root, makes a machine of its own first: namespaces in which nothing else runs (`machine`), and in
them a lab whose node answers to `localhost` and to all of 127.0.0.0/8 (`ground`), either directly or through the
stand-in for the Teleport proxy. Everybody else runs the same with routes instead of addresses, less the cases that need
root. A case (`case`) is one command line, with a ControlPath and a copy of its suite of its own, so that cases can run side
by side; what it wrote is printed when it fails.

    PYTHONPATH=tests .venv/bin/python -m ansible_suites ssh                     # natssh as the ssh of the ssh plugin
    PYTHONPATH=tests .venv/bin/python -m ansible_suites ssh --way direct --only piped,verbosity
    PYTHONPATH=tests .venv/bin/python -m ansible_suites targets --connection natssh.broker.ssh      # the collection's plugin; see `targets`
    PYTHONPATH=tests .venv/bin/python -m ansible_suites matrix                  # every ansible-core that this machine can run, both ways
    PYTHONPATH=tests .venv/bin/python -m ansible_suites fetch                   # only gets what the others need (scripts/setup.sh does)
"""
